"""What loading takes beside what stays: little, at the size of a released model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peak_memory import counted
from safetensors.torch import save_file

import lclip
from lclip.mini.world import WEIGHTS
from lclip.model.latent_clip import stored_name

B_8 = lclip.LatentCLIPConfig(
    embed_dim=512, channels=4, patch_size=8, grid=8, vision_width=768, vision_layers=12, vision_heads=12,
    text_width=512, text_layers=12, text_heads=8, context_length=77, vocab_size=49408, latent_space="sdxl",
)  # fmt: skip

PROGRAM = """
import sys, torch
sys.path.insert(0, {tests!r})
from peak_memory import forget_peak, peak_memory
import lclip
small, path, dtype = {small!r}, {path!r}, {dtype}
lclip.load(small)
before = set(sys.modules)
forget_peak()
start = peak_memory()
model = lclip.load(path, dtype=dtype)
stays = sum(each.numel() * each.element_size() for each in model.parameters())
print((peak_memory() - start) / stays, "torch._dynamo" in before)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """B/8's shapes: converted, and as it was released, without the optimizer."""
    folder = tmp_path_factory.mktemp("b-8")
    shapes = lclip.LatentCLIP(B_8, device="meta").state_dict()
    weights = {stored_name(name): torch.rand(tensor.shape) for name, tensor in shapes.items()}
    save_file({name: tensor.half() for name, tensor in weights.items()}, folder / "b-8.safetensors")
    torch.save(
        {"epoch": 34, "state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}},
        folder / "b-8.pt",
    )
    del weights
    yield {".safetensors": folder / "b-8.safetensors", ".pt": folder / "b-8.pt"}
    for file in folder.iterdir():
        file.unlink()


@counted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("kind", [".safetensors", ".pt"])
def test_the_peak_is_little_more_than_what_stays(files, kind, dtype):
    code = PROGRAM.format(
        tests=str(Path(__file__).parent),
        small=str(WEIGHTS / "latent_clip.safetensors"),
        path=str(files[kind]),
        dtype=dtype,
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ratio, compiler = done.stdout.split()
    assert float(ratio) < 1.3, "mapped and copied as a whole it was 1.5 to 2.1"
    assert compiler == "False", "torch's compiler takes 2 s and 100 MB, and nobody needs it here"
