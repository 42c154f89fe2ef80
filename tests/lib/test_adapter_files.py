"""Adapter files: what is written comes back, and what each wrong file is told."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import lclip
from lclip.adapters.adapter import AdapterFigures, AdapterShape
from lclip.adapters.files import weights_hash

SHAPE = AdapterShape(lclip.space_named("mini-16"), lclip.space_named("mini"), width=8, depth=1)


@pytest.fixture
def adapter():
    torch.manual_seed(1)
    made = lclip.LatentAdapter(SHAPE)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.rand_like(parameter) + 0.5)
    made.figures = AdapterFigures(500, 50, 0.03, 0.97, 1200, 123.4)
    made.trained_with = "0123456789abcdef"
    return made


@pytest.fixture
def file(adapter, tmp_path):
    return lclip.save_adapter(adapter, tmp_path / "adapter.safetensors")


def content(file):
    with safe_open(file, framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()  # noqa: SIM118


def rewritten(file, change):
    """The same file with other content."""
    weights, metadata = content(file)
    change(weights, metadata)
    save_file(weights, file, metadata)
    return file


def test_what_is_written_comes_back(adapter, file):
    back = lclip.load_adapter(file)
    assert back.shape == adapter.shape and back.figures == adapter.figures
    assert back.trained_with == adapter.trained_with
    for name, tensor in adapter.state_dict().items():
        assert torch.equal(tensor, back.state_dict()[name])
    assert not any(parameter.requires_grad for parameter in back.parameters()) and not back.training
    z = torch.randn(2, 16, 4, 6)
    assert torch.equal(adapter(z), back(z))
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_file_says_what_it_is_without_being_loaded(file):
    weights, metadata = content(file)
    assert metadata["format"] == "latent-clip-adapter" and metadata["version"] == "1"
    assert (metadata["source_space"], metadata["target_space"]) == ("mini-16", "mini")
    assert json.loads(metadata["figures"])["cosine"] == 0.97
    assert metadata["sha256"] == weights_hash(weights) and metadata["model"] == "0123456789abcdef"


def test_a_space_that_this_version_does_not_know_comes_with_the_file(tmp_path):
    own = lclip.LatentSpace("mine", "my latents", 5, 8, None, None)
    made = lclip.LatentAdapter(AdapterShape(own, lclip.space_named("mini"), 8, 0))
    back = lclip.load_adapter(lclip.save_adapter(made, tmp_path / "mine.safetensors"))
    assert back.source == own and back.figures is None and back.trained_with is None


def set_entry(name, value):
    return lambda weights, metadata: metadata.__setitem__(name, value)


def changed_shape(**changes):
    def change(weights, metadata):
        metadata["shape"] = json.dumps({**json.loads(metadata["shape"]), **changes})

    return change


def changed_source(**changes):
    def change(weights, metadata):
        shape = json.loads(metadata["shape"])
        metadata["shape"] = json.dumps({**shape, "source": {**shape["source"], **changes}})

    return change


def spoil(weights, metadata):
    weights["enter.weight"][0, 0, 0, 0] = torch.nan
    metadata["sha256"] = weights_hash(weights)


WRONG = {
    "newer": (set_entry("version", "2"), "of version 2; this program reads up to 1.*update"),
    "version": (set_entry("version", "new"), "version is 'new'"),
    "format": (set_entry("format", "latent-clip"), "not a latent adapter"),
    "shape": (set_entry("shape", "{"), "'shape' is missing or no JSON"),
    "no figures": (lambda weights, metadata: metadata.pop("figures"), "'figures' is missing"),
    "figures": (set_entry("figures", '{"cosine": 1}'), "expected an object with"),
    "infinite": (changed_source(std=float("inf")), "std"),
    "huge width": (changed_shape(width=10**9), "width"),
    "huge channels": (changed_source(channels=10**9), "channels"),
    "width": (changed_shape(width=16), "has shape"),
    "text": (changed_source(factor="8"), "factor is '8'"),
    "changed weight": (lambda weights, metadata: weights["linear.bias"].add_(1), "do not fit the hash"),
    "missing weight": (lambda weights, metadata: weights.pop("linear.bias"), "linear.bias"),
    "extra weight": (lambda weights, metadata: weights.update(more=torch.zeros(1)), "more"),
    "nan": (spoil, "NaN"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_told_what_is_wrong(file, case):
    change, text = WRONG[case]
    with pytest.raises(lclip.CheckpointError, match=text) as refusal:
        lclip.load_adapter(rewritten(file, change))
    assert str(file) in str(refusal.value)


def test_damaged_and_missing_files(file, tmp_path):
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(lclip.CheckpointError, match="damaged"):
        lclip.load_adapter(file)
    (tmp_path / "text.safetensors").write_text("<html>")
    with pytest.raises(lclip.CheckpointError, match="no safetensors"):
        lclip.load_adapter(tmp_path / "text.safetensors")
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        lclip.load_adapter(tmp_path / "none.safetensors")


def test_a_checkpoint_is_no_adapter_and_an_adapter_no_checkpoint(file):
    from lclip.mini.world import WEIGHTS

    with pytest.raises(lclip.CheckpointError, match="not a latent adapter"):
        lclip.load_adapter(WEIGHTS / "latent_clip.safetensors")
    with pytest.raises(lclip.CheckpointError, match="not a Latent-CLIP"):
        lclip.load(file)


def test_what_cannot_be_saved(adapter, tmp_path):
    with pytest.raises(ValueError, match=r"\.safetensors"):
        lclip.save_adapter(adapter, tmp_path / "adapter.pt")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        lclip.save_adapter(adapter, tmp_path / "nowhere" / "a.safetensors")
    with torch.no_grad():
        adapter.leave.bias.fill_(torch.inf)
    with pytest.raises(ValueError, match="went astray"):
        lclip.save_adapter(adapter, tmp_path / "broken.safetensors")
    assert not list(tmp_path.iterdir())
