"""How many are asked for: one check, in one form of words, wherever a number of items is given."""

import numpy as np
import pytest
import torch

import lclip
from lclip.choosing.balance import balance_of
from lclip.latents.items import check_count, check_k, repeated


@pytest.mark.parametrize("value", [2, np.int64(2)])
def test_a_count_is_a_plain_integer(value):
    found = check_count("k", value, most=2)
    assert found == 2 and type(found) is int


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "k is 0; expected 1 to 3, the number of items"),
        (-1, "k is -1; expected 1 to 3"),
        (True, "k is True; expected a whole number, 1 to 3"),
        (2.0, "k is 2.0; expected a whole number"),
        ("2", "k is '2'; expected a whole number"),
        (None, "k is None; expected a whole number"),
    ],
)
def test_one_check_of_every_k(value, said):
    """Select, pick, balance and best_of ask how many in the same words."""
    scores = torch.tensor([0.1, 0.3, 0.2])
    shares = torch.full((3, 2), 0.5)
    calls = [lambda: check_k(value, 3), lambda: lclip.top_k(scores, value)]
    if value is not None:  # there, None is all that reach a value, or as many as fit
        calls.append(lambda: lclip.pick(scores, value))
        calls.append(lambda: balance_of(shares, ["a", "b"], k=value))
    for call in calls:
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value).startswith(said)


def test_a_count_may_have_other_ends():
    assert check_count("n", 0, least=0) == 0
    assert check_count("n", 5, most=5) == 5
    for value in (1, 6):
        with pytest.raises(ValueError, match=f"n is {value}; expected 2 to 5"):
            check_count("n", value, "2 to 5", least=2, most=5)


def test_a_batch_is_repeated_whole():
    batch = torch.arange(12.0).reshape(2, 3, 2)
    assert torch.equal(repeated(batch, 3), torch.cat([batch, batch, batch]))
