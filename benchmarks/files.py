"""Load time and peak memory of every file kind, each in a process of its own."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch
from torch import Tensor

import lclip
from lclip.statistics import bootstrap

from . import shapes
from .harness import Run, Skipped, table
from .probes import PEAK_KIB, STATUS, probe

PROBE = f"""
import json, sys, time
import torch, safetensors.torch, lclip
peak = lambda: {PEAK_KIB} / 1024
before, start = peak(), time.perf_counter()
getattr(lclip, sys.argv[1])(*sys.argv[2:])
print(json.dumps([time.perf_counter() - start, peak() - before]))
"""


def files(run: Run) -> str:
    """The released layout (synthetic weights) and our safetensors, at both released sizes. Raises Skipped."""
    if not STATUS.exists():
        raise Skipped(f"this system has no {STATUS} to read peak memory from")
    rows, conversions = [], []
    layers = run.choose(12, 1)
    with tempfile.TemporaryDirectory(prefix="latent-clip-") as folder:
        for name, base in shapes.LATENT_CLIPS.items():
            run.say(name)
            released = Path(folder) / "epoch_34.pt"
            write_released(shapes.with_layers(base, layers), released)
            small = Path(folder) / "small.safetensors"
            convert = [measured("convert", released, small) for _ in range(run.choose(3, 1))]
            conversions.append((name, _seconds(convert), _memory(convert, released), _mebibytes(small)))
            for title, path in (("released .pt", released), ("converted fp16 .safetensors", small)):
                loads = [measured("load", path) for _ in range(run.choose(5, 1))]
                rows.append((name, title, _mebibytes(path), _seconds(loads), _memory(loads, path)))
            released.unlink()
            small.unlink()
    return (
        "Synthetic weights in the layout of the released files: fp32 weights, two Adam moments, a VAE "
        "encoder of SDXL's "
        "size. Peak memory is what the call added to a process that had torch loaded; the files were in "
        "the page cache. "
        "Loading gives fp32 weights from either kind.\n\n"
        + table(("model", "file", "size", "load", "peak memory"), rows)
        + "\n\n"
        + table(("model", "convert to fp16", "peak memory", "written"), conversions)
    )


def measured(call: str, *paths: Path) -> tuple[float, float]:
    """Seconds and added peak MiB of `lclip.<call>(*paths)` in a fresh process."""
    seconds, mebibytes = json.loads(probe(PROBE, call, *paths))
    return seconds, mebibytes


def _seconds(results: list[tuple[float, float]]) -> str:
    return bootstrap([seconds for seconds, _ in results]).text(digits=2, unit=" s")


def _memory(results: list[tuple[float, float]], path: Path) -> str:
    most = max(mebibytes for _, mebibytes in results)
    return f"{most:.0f} MiB ({most / (path.stat().st_size / 2**20):.2f} x the file)"


def _mebibytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.0f} MB"


def write_released(config: lclip.LatentCLIPConfig, path: Path) -> None:
    """A file in the layout of the released checkpoints, with random weights."""
    model = lclip.LatentCLIP(config)
    weights: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        stored = name.replace("attn.in_proj.", "attn.in_proj_")
        if stored.startswith("visual."):
            stored = stored.replace("visual.", "visual.latent_vit.", 1)
        weights[f"module.{stored}"] = tensor
    state = {
        index: {
            "step": torch.tensor(80_000.0),
            "exp_avg": torch.zeros_like(w),
            "exp_avg_sq": torch.zeros_like(w),
        }
        for index, w in enumerate(weights.values())
    }
    # SDXL's VAE encoder has 34.2 M parameters; its inner layout does not matter, it is dropped
    for index in range(34):
        weights[f"module.visual.vae_encoder.layer_{index}.weight"] = torch.zeros(1000, 1000)
    weights["module.visual.vae_quant_conv.weight"] = torch.zeros(8, 8, 1, 1)
    torch.save(
        {
            "epoch": 34,
            "name": "synthetic",
            "state_dict": weights,
            "optimizer": {"state": state, "param_groups": [{"lr": 1e-3, "params": list(state)}]},
        },
        path,
    )
