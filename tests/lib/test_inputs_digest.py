"""The hash of what a training starts from: equal for equal inputs, another for any that differs."""

import hashlib
import itertools

import pytest
import torch

import lclip
from lclip.checkpoints.inputs import CHUNK, inputs_digest
from lclip.rewards.taste import taste_inputs

Z = torch.arange(12.0).reshape(3, 4)


@pytest.fixture
def files(tmp_path):
    for name, content in (("a", b"picture"), ("b", b"picture"), ("c", b"another")):
        (tmp_path / name).write_bytes(content)
    return tmp_path


DIFFERENT = [
    (Z,), (Z.half(),), (Z.double(),), (Z.reshape(4, 3),), (Z.clone().flip(0),), (Z, Z), (Z[:2], Z[2:]),
    ([Z],), ("12",), (12,), (12.0,), (True,), (None,), ("None",), ("1", "2"), ("1, 2",), (["1", "2"],),
    ([["1"], "2"],), ({"a": 1, "b": 2},), ({"a": 2, "b": 1},), (), ("",), (torch.zeros(0),),
    (torch.zeros(0, 3),),
]  # fmt: skip


def test_what_differs_has_another_hash():
    digests = [inputs_digest(*parts) for parts in DIFFERENT]
    for (i, first), (j, second) in itertools.combinations(enumerate(digests), 2):
        assert first != second, (DIFFERENT[i], DIFFERENT[j])


def test_what_is_equal_has_the_same_hash(files):
    assert inputs_digest(Z) == inputs_digest(Z.clone()) == inputs_digest(Z.T.contiguous().T)
    assert inputs_digest({"a": 1, "b": Z}) == inputs_digest({"b": Z, "a": 1})
    assert inputs_digest(files / "a") == inputs_digest(files / "b") != inputs_digest(files / "c")
    assert inputs_digest(torch.ones(2, dtype=torch.bfloat16)) == inputs_digest(torch.ones(2).bfloat16())


def test_a_large_file_is_read_to_its_end(tmp_path):
    path = tmp_path / "large"
    content = bytes(range(256)) * (2 * CHUNK // 256) + b"end"
    path.write_bytes(content)
    wanted = hashlib.sha256(f"file {len(content)};".encode() + content).hexdigest()
    assert inputs_digest(path) == wanted


def test_what_cannot_be_hashed_is_refused():
    with pytest.raises(ValueError, match="a object cannot be hashed"):
        inputs_digest(object())


def test_a_taste_knows_what_it_was_learnt_from(tiny_model, tmp_path):
    torch.manual_seed(1)
    liked, disliked = torch.randn(4, 4, 8, 8) * 6, torch.randn(5, 4, 8, 8) * 6
    taste = lclip.train_taste(tiny_model, liked, disliked, 0.3)
    assert taste.trained_from == taste_inputs(tiny_model, liked, disliked, 0.3)
    loaded = lclip.load_taste(lclip.save_taste(taste, tmp_path / "t.safetensors"))
    assert loaded.trained_from == taste.trained_from
    others = [
        taste_inputs(tiny_model, disliked, liked, 0.3),
        taste_inputs(tiny_model, liked, disliked),
        taste_inputs(tiny_model, liked + 1e-3, disliked, 0.3),
        taste_inputs(tiny_model.double(), liked + 1e-3, disliked, 0.3),
    ]
    assert taste.trained_from not in others
