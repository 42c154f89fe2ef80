"""Every kind of file of ours says what it is; others, newer ones and broken ones are refused alike."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import lclip
from lclip.adapters.adapter import AdapterShape
from lclip.mini.world import WEIGHTS, load_latent_format, load_world


def checkpoint(folder):
    return WEIGHTS / "latent_clip.safetensors"


def adapter(folder):
    shape = AdapterShape(lclip.space_named("mini-16"), lclip.space_named("mini"), 4, 1)
    return lclip.save_adapter(lclip.LatentAdapter(shape), folder / "adapter.safetensors")


def taste(folder):
    return lclip.save_taste(lclip.Taste(torch.ones(4), 0.5, "mine"), folder / "taste.safetensors")


def vae(folder):
    return WEIGHTS / "vae.safetensors"


def policy(folder):
    path = folder / "policy.json"
    path.write_text(lclip.SafetyPolicy.preset("mini").to_json(), encoding="utf-8")
    return path


def read_policy(path):
    return lclip.SafetyPolicy.from_json(path.read_text(encoding="utf-8"))


KINDS = {
    "checkpoint": (checkpoint, lclip.load, "Latent-CLIP"),
    "adapter": (adapter, lclip.load_adapter, "latent adapter"),
    "taste": (taste, lclip.load_taste, "taste"),
    "mini": (vae, lambda path: load_latent_format(path.parent), "file of the mini world"),
    "policy": (policy, read_policy, "safety policy"),
}


def changed(path, folder, **said):
    """A copy of a file that says other things in its head."""
    if path.suffix == ".json":
        content = json.loads(path.read_text(encoding="utf-8")) | {"model": None} | said
        del content["checksum"]
        (folder / path.name).write_text(json.dumps(content), encoding="utf-8")
        return folder / path.name
    with safe_open(path, "pt") as file:
        metadata, weights = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if path.parent == WEIGHTS and "about" in metadata:
        metadata["about"] = json.dumps(json.loads(metadata["about"]) | said)
    else:
        metadata |= {name: str(value) for name, value in said.items()}
    save_file(weights, folder / path.name, metadata)
    return folder / path.name


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_as_it_is_and_one_of_another_version(tmp_path, kind):
    make, read, what = KINDS[kind]
    path = make(tmp_path)
    read(path)
    (tmp_path / "new").mkdir()
    known = 2 if kind == "policy" else 1
    told = f"{what} is of version {known + 1}; this program reads up to {known}.*update"
    with pytest.raises(ValueError, match=told):
        read(changed(path, tmp_path / "new", version=known + 1))
    for version in ("new", 0, 1.5):
        with pytest.raises(ValueError, match="its version is '?(new|0|1.5)'?; expected a whole number"):
            read(changed(path, tmp_path / "new", version=version))


@pytest.mark.parametrize("other", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_kind_is_refused_by_name(tmp_path, kind, other):
    make, read, what = KINDS[kind]
    names = {
        "checkpoint": "latent-clip", "adapter": "latent-clip-adapter", "taste": "latent-clip-taste",
        "mini": "latent-clip-mini", "policy": "latent-clip-safety-policy",
    }  # fmt: skip
    (tmp_path / "new").mkdir()
    path = changed(make(tmp_path), tmp_path / "new", format=names[other])
    if kind == other:
        read(path)
        return
    with pytest.raises(ValueError, match=f"{what}|{names[other]}|a whole Latent-CLIP") as caught:
        read(path)
    if path.suffix != ".json":
        assert isinstance(caught.value, lclip.CheckpointError) and str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"<html>", bytes(200), b"\x10\0\0\0\0\0\0\0{}"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "policy"])
def test_what_is_no_safetensors_is_said_and_named(tmp_path, kind, content):
    make, read, _ = KINDS[kind]
    path = tmp_path / make(tmp_path).name
    path.write_bytes(content)
    with pytest.raises(lclip.CheckpointError, match="damaged|empty|neither") as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_world_that_is_not_there_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="install the pack again"):
        load_world(folder=tmp_path)
