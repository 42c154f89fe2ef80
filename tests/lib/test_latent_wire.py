"""A LATENT as a dictionary: its items with their masks and numbers, whatever other nodes left out of it."""

from __future__ import annotations

import importlib

import numpy
import pytest
import torch
from test_charts import PACK, pack  # noqa: F401  # fixture


@pytest.fixture
def wire(pack):  # noqa: F811
    return importlib.import_module(f"{PACK}.nodes.latents")


@pytest.mark.parametrize("kind", [list, tuple, numpy.array, torch.tensor])
def test_numbers_of_items_may_be_of_any_kind(wire, kind):
    latent = {"samples": torch.randn(3, 4, 8, 8), "batch_index": kind([4, 7, 9])}
    assert wire.numbers_of(latent) == (4, 7, 9) and wire.item_numbers(latent) == [4, 7, 9]
    assert wire.take_items(latent, [2, 0])["batch_index"] == [9, 4]
    assert wire.made_from(latent, torch.randn(6, 4, 8, 8))["batch_index"] == [4, 7, 9] * 2


@pytest.mark.parametrize(
    ("said", "of", "numbers", "taken"),
    [
        (None, None, [0, 1, 2], [2, 0]),
        ([], None, [0, 1, 2], [2, 0]),
        ([5], None, [5, 5, 5], [5, 5]),
        ([5, 6], None, [5, 6, 5], [5, 5]),
        ([5, 6, 7, 8], None, [5, 6, 7], [7, 5]),
    ],
)
def test_too_few_or_no_numbers_begin_again_with_the_first(wire, said, of, numbers, taken):
    latent = {"samples": torch.randn(3, 4, 8, 8)} | ({} if said is None else {"batch_index": said})
    assert wire.numbers_of(latent) is of and wire.item_numbers(latent) == numbers
    assert wire.take_items(latent, [2, 0])["batch_index"] == taken
    assert latent.get("batch_index") == said, "what came in is another node's"


@pytest.mark.parametrize("shape", [(64, 64), (1, 64, 64), (1, 1, 64, 64), (2, 64, 64), (3, 1, 64, 64)])
def test_masks_stay_with_their_items(wire, shape):
    mask = torch.rand(shape)
    latent = {"samples": torch.randn(3, 4, 8, 8), "noise_mask": mask}
    found = wire.take_items(latent, [2, 0])["noise_mask"]
    own = mask if len(shape) < 3 or shape[0] == 1 else mask[[2 % shape[0], 0]]
    assert torch.equal(found, own) and latent["noise_mask"] is mask
