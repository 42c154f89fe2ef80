"""Taste files: small, equal after a round trip, refused when damaged or newer; published heads load."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_rewards import latents, small_clip
from torch import nn

from lclip import CheckpointError, TasteReward, load_taste, save_checkpoint, save_taste, train_taste
from lclip.mini.world import WEIGHTS

MARK = []


@pytest.fixture(scope="module")
def clip():
    return small_clip()


@pytest.fixture
def taste(clip):
    return train_taste(clip, latents(6), latents(5, seed=2), name="mine", model_name="clip-a")


def test_a_round_trip_keeps_everything_in_a_few_kilobytes(clip, taste, tmp_path):
    path = save_taste(taste, tmp_path / "mine.safetensors")
    assert path.stat().st_size < 4096
    again = load_taste(path)
    assert torch.equal(again.direction, taste.direction)
    for name in ("bias", "name", "model", "model_name", "latent_space", "figures", "notes", "size_rule"):
        assert getattr(again, name) == getattr(taste, name), name
    assert again.text() == taste.text()
    z = latents(3, seed=9)
    torch.testing.assert_close(TasteReward(clip, again)(z), TasteReward(clip, taste)(z), rtol=0, atol=0)


def test_a_loaded_taste_refuses_another_model(taste, tmp_path):
    loaded = load_taste(save_taste(taste, tmp_path / "mine.safetensors"))
    with pytest.raises(ValueError, match="belongs to clip-a"):
        TasteReward(small_clip(1), loaded)


def rewritten(path, tensors=None, **metadata):
    """The same file with some of its content replaced."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        kept = file.metadata()
    save_file(load_file(path) if tensors is None else tensors, path, {**kept, **metadata})
    return path


def test_a_newer_version_is_refused(taste, tmp_path):
    path = rewritten(save_taste(taste, tmp_path / "mine.safetensors"), version="2")
    with pytest.raises(CheckpointError, match="of version 2; this program reads up to 1.*update"):
        load_taste(path)


def figures(**changes):
    return dict(liked=3, disliked=3, liked_right=1, disliked_right=0, shrinkage=0.5) | changes


def changed(taste_about, **entries):
    return json.dumps({**json.loads(taste_about), **entries})


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"bias": "0"}, "damaged"),
        ({"bias": float("nan")}, "NaN"),
        ({"figures": {"liked": 1}}, "expected numbers for liked"),
        ({"figures": figures(liked_right=4)}, "contradict"),
        ({"figures": figures(liked=0, disliked=0, liked_right=0)}, "cannot be"),
        ({"figures": figures(shrinkage=True)}, "expected numbers"),
        ({"name": None}, "damaged"),
        ({"notes": "x"}, "damaged"),
    ],
)
def test_damaged_metadata_is_explained(taste, tmp_path, entries, said):
    from safetensors import safe_open

    path = save_taste(taste, tmp_path / "mine.safetensors")
    with safe_open(path, "pt") as file:
        about = file.metadata()["about"]
    with pytest.raises(CheckpointError, match=said):
        load_taste(rewritten(path, about=changed(about, **entries)))


@pytest.mark.parametrize("about", ["", "{", "[]", "[" * 100_000])
def test_metadata_that_is_no_json_is_explained(taste, tmp_path, about):
    path = rewritten(save_taste(taste, tmp_path / "mine.safetensors"), about=about)
    with pytest.raises(CheckpointError, match="about"):
        load_taste(path)


@pytest.mark.parametrize(
    "tensors",
    [{"direction": torch.ones(2, 3)}, {"other": torch.ones(3)}, {"direction": torch.full((3,), torch.inf)}],
)
def test_damaged_weights_are_explained(taste, tmp_path, tensors):
    path = rewritten(save_taste(taste, tmp_path / "mine.safetensors"), tensors)
    with pytest.raises(CheckpointError, match="mine.safetensors"):
        load_taste(path)


def test_only_safetensors_are_written(taste, tmp_path):
    with pytest.raises(ValueError, match="ends in .safetensors"):
        save_taste(taste, tmp_path / "mine.pt")
    with pytest.raises(FileNotFoundError, match="create it first"):
        save_taste(taste, tmp_path / "nowhere" / "mine.safetensors")


def published_mlp(width):
    """The layout of LAION's improved predictor, with small layers: linear, with dropout in between."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(width, 16), nn.Dropout(0.2), nn.Linear(16, 8), nn.Dropout(0.2), nn.Linear(8, 6),
        nn.Dropout(0.1), nn.Linear(6, 4), nn.Linear(4, 1),
    ).eval().requires_grad_(False)  # fmt: skip


@pytest.mark.parametrize("kind", [".pth", ".safetensors"])
@pytest.mark.parametrize("form", ["linear", "named linear", "mlp"])
def test_published_aesthetic_heads_give_a_tenth_of_their_rating(clip, tmp_path, form, kind):
    torch.manual_seed(1)
    module = published_mlp(24) if form == "mlp" else nn.Linear(24, 1).requires_grad_(False)
    prefix = {"linear": "", "named linear": "linear.", "mlp": "layers."}[form]
    weights = {prefix + name: tensor for name, tensor in module.state_dict().items()}
    path = tmp_path / f"aesthetic{kind}"
    torch.save(weights, path) if kind == ".pth" else save_file(weights, path)
    head = load_taste(path)
    assert head.name == "aesthetic" and head.model is None
    z = latents(5)
    wanted = 0.1 * module(clip.encode_latents(z))[:, 0]
    torch.testing.assert_close(TasteReward(clip, head)(z), wanted, atol=1e-6, rtol=1e-5)
    assert "linear head" in head.text()


class Evil:
    def __reduce__(self):
        return (MARK.append, (1,))


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"weight": torch.ones(1, 4)}, "no aesthetic head"),
        ({"weight": torch.ones(2, 4), "bias": torch.ones(2)}, "2 numbers per picture"),
        ({"weight": torch.ones(1, 4), "bias": torch.ones(3)}, "do not fit"),
        ({"weight": torch.ones(1, 4, dtype=torch.int64), "bias": torch.ones(1)}, "plain numbers"),
        ({"weight": torch.ones(1, 1).expand(1, 1 << 40), "bias": torch.ones(1)}, "more than the file holds"),
        ({"weight": torch.full((1, 4), torch.nan), "bias": torch.ones(1)}, "NaN"),
        ({f"layers.{i}.{k}": torch.ones(1, 1) for i in (0, 3, 6) for k in ("weight", "bias")}, "activations"),
        ({}, "nothing"),
        ({"weight": torch.ones(1, 4), "bias": torch.ones(1), "more": Evil()}, "refused"),
    ],
)
def test_other_files_are_explained_and_run_nothing(tmp_path, weights, said):
    path = tmp_path / "head.pth"
    torch.save(weights, path)
    with pytest.raises(CheckpointError, match=said):
        load_taste(path)
    assert not MARK


def test_layers_that_do_not_follow_each_other_are_explained(tmp_path):
    weights = {f"layers.{name}": tensor for name, tensor in published_mlp(24).state_dict().items()}
    weights["layers.2.weight"] = torch.ones(8, 15)
    torch.save(weights, tmp_path / "head.pth")
    with pytest.raises(CheckpointError, match="do not fit"):
        load_taste(tmp_path / "head.pth")


def test_a_whole_tower_is_sent_to_the_text_reward(clip, tmp_path):
    for path in (WEIGHTS / "latent_clip.safetensors", save_checkpoint(clip, tmp_path / "whole.safetensors")):
        with pytest.raises(CheckpointError, match="whole Latent-CLIP.*Text Reward"):
            load_taste(path)
    torch.save({"state_dict": {f"module.{k}": v for k, v in clip.state_dict().items()}}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="whole Latent-CLIP.*Text Reward"):
        load_taste(tmp_path / "w.pt")


def test_files_of_other_kinds_are_named(taste, tmp_path):
    path = rewritten(save_taste(taste, tmp_path / "mine.safetensors"), format="latent-clip-adapter")
    with pytest.raises(CheckpointError, match="latent-clip-adapter file; expected a taste"):
        load_taste(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_taste(tmp_path / "nowhere.safetensors")
