"""Conversion: what is kept, how small, and that half a file is never left."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from peak_memory import counted
from safetensors import safe_open

import lclip
from lclip.model.latent_clip import stored_name

ROOT = Path(__file__).resolve().parents[2]


def released_like(path: Path, model: lclip.LatentCLIP, ballast: int = 10) -> Path:
    """A training checkpoint around a model's weights; ballast: numbers per moment and in the VAE encoder."""
    weights = {"module." + stored_name(name): tensor for name, tensor in model.state_dict().items()}
    weights = {name.replace("visual.", "visual.latent_vit."): tensor for name, tensor in weights.items()}
    weights["module.visual.vae_encoder.conv_in.weight"] = torch.randn(ballast)
    optimizer = {"state": {0: {"exp_avg": torch.randn(ballast), "exp_avg_sq": torch.randn(ballast)}}}
    torch.save({"epoch": 34, "name": "run", "state_dict": weights, "optimizer": optimizer}, path)
    return path


@pytest.fixture
def clip_like(tiny_config):
    """A small model with CLIP's own tokenizer, as the released ones have."""
    fields = {**vars(tiny_config), "tokenizer": "clip-bpe", "vocab_size": 49408, "context_length": 77}
    return lclip.LatentCLIP(lclip.LatentCLIPConfig(**fields)).requires_grad_(False)


@pytest.mark.parametrize(
    ("dtype", "bytes_each"), [(torch.float16, 2), (torch.bfloat16, 2), (torch.float32, 4)]
)
def test_towers_alone_in_the_chosen_type(clip_like, tmp_path, dtype, bytes_each):
    source = released_like(tmp_path / "epoch_34.pt", clip_like, ballast=100_000)
    target = lclip.convert(source, tmp_path / "small.safetensors", dtype)
    numbers = sum(parameter.numel() for parameter in clip_like.parameters())
    assert target.stat().st_size == pytest.approx(numbers * bytes_each, rel=0.01)
    with safe_open(target, "pt") as file:
        names, metadata = set(file.keys()), file.metadata()
        assert file.get_tensor("visual.proj").dtype == dtype
    assert names == {stored_name(name) for name in clip_like.state_dict()}
    assert metadata["source_name"] == "epoch_34.pt"
    assert metadata["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    z = torch.randn(2, 4, 8, 8) * 6
    cosine = (lclip.load(target).encode_latents(z) * clip_like.encode_latents(z)).sum(1)
    assert float(cosine.min()) > 0.999


def test_converting_our_own_file_again_keeps_what_it_says(tiny_model, tmp_path):
    path = lclip.save_checkpoint(tiny_model, tmp_path / "a.safetensors")
    again = lclip.load(lclip.convert(path, tmp_path / "b.safetensors", torch.float32))
    assert again.config == tiny_model.config
    assert torch.equal(again.encode_text("red"), tiny_model.encode_text("red"))


def test_the_file_is_as_readable_as_any_other(tiny_model, tmp_path):
    path = lclip.save_checkpoint(tiny_model, tmp_path / "a.safetensors")
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_failure_leaves_the_old_file_and_no_other(tiny_model, tmp_path, monkeypatch):
    source = lclip.save_checkpoint(tiny_model, tmp_path / "a.safetensors")
    target = tmp_path / "b.safetensors"
    target.write_bytes(b"what was there before")

    def half(tensors, path, metadata):
        Path(path).write_bytes(b"half a file")
        raise OSError("no space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", half)
    with pytest.raises(OSError, match="no space"):
        lclip.convert(source, target)
    assert target.read_bytes() == b"what was there before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_float16_that_overflows_is_refused(tiny_model, tmp_path):
    tiny_model.visual.proj.fill_(1e5)
    source = lclip.save_checkpoint(tiny_model, tmp_path / "a.safetensors")
    with pytest.raises(lclip.CheckpointError, match=r"visual\.proj.*float16.*bfloat16"):
        lclip.convert(source, tmp_path / "b.safetensors")
    assert not (tmp_path / "b.safetensors").exists()
    assert lclip.convert(source, tmp_path / "b.safetensors", torch.bfloat16).exists()


def test_wrong_arguments(tiny_model, tmp_path):
    source = lclip.save_checkpoint(tiny_model, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="int8; expected one of torch.float16"):
        lclip.convert(source, tmp_path / "b.safetensors", torch.int8)
    with pytest.raises(ValueError, match="ends in .safetensors"):
        lclip.convert(source, tmp_path / "b.pt")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        lclip.convert(source, tmp_path / "nowhere" / "b.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no\.pt"):
        lclip.convert(tmp_path / "no.pt", tmp_path / "b.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


PEAK = """
import sys, torch, lclip
from peak_memory import peak_memory
lclip.convert  # what it needs is loaded when it is first asked for
before = peak_memory()
lclip.convert(sys.argv[1], sys.argv[2])
print(peak_memory() - before)
"""


@counted
def test_peak_memory_stays_under_the_pickles_size(clip_like, tmp_path):
    """As in the released files, three quarters of the pickle are not the model's."""
    numbers = sum(parameter.numel() for parameter in clip_like.parameters())
    source = released_like(tmp_path / "epoch_34.pt", clip_like, ballast=3 * numbers)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(Path(__file__).parent)))}
    command = [sys.executable, "-c", PEAK, str(source), str(tmp_path / "small.safetensors")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 1.3 * source.stat().st_size
