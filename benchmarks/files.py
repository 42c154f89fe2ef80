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

READ = """
import json, sys, time
import torch, safetensors.torch
start = time.perf_counter()
weights = {name: w.float() for name, w in safetensors.torch.load_file(sys.argv[1]).items()}
print(json.dumps(time.perf_counter() - start))
"""
JUDGES = """
import json, sys, time
import lclip
from lclip.model.memory import EmbeddingMemory
model = lclip.load(sys.argv[1])
model.memory = EmbeddingMemory()  # as the nodes have it
times = []
for _ in range(2):
    start = time.perf_counter()
    lclip.SafetyJudge(lclip.SafetyPolicy.preset("i2p"), model, check_scale=False)
    times.append(time.perf_counter() - start)
print(json.dumps(times))
"""
HELP = """
import json, subprocess, sys, time
times = []
for command in (["-c", "pass"], ["-m", "lclip", "--help"]):
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    times.append(time.perf_counter() - start)
print(json.dumps(times))
"""


def files(run: Run) -> str:
    """The released layout (synthetic weights) and our safetensors, at both released sizes. Raises Skipped."""
    if not STATUS.exists():
        raise Skipped(f"this system has no {STATUS} to read peak memory from")
    rows, conversions, judges = [], [], []
    layers = run.choose(12, 1)
    with tempfile.TemporaryDirectory(prefix="latent-clip-") as folder:
        for name, base in shapes.LATENT_CLIPS.items():
            run.say(name)
            released = Path(folder) / "epoch_34.pt"
            write_released(shapes.with_layers(base, layers), released)
            small = Path(folder) / "small.safetensors"
            convert = [measured("convert", released, small) for _ in range(run.choose(3, 1))]
            conversions.append(
                (
                    name,
                    _seconds(convert),
                    _memory(convert, released.stat().st_size, "the file"),
                    _mebibytes(small),
                )
            )
            stays = 4 * sum(weight.numel() for weight in lclip.load(small).parameters())
            for title, path in (("released .pt", released), ("converted fp16 .safetensors", small)):
                loads = [(measured("load", path), _read(path)) for _ in range(run.choose(5, 1))]
                own = [load for load, _ in loads]
                rows.append(
                    (
                        name,
                        title,
                        _mebibytes(path),
                        _seconds(own),
                        _ratio(loads),
                        _memory(own, stays, "what stays"),
                    )
                )
            judges.append((name, *_both([json.loads(probe(JUDGES, small)) for _ in range(run.choose(3, 1))])))
            released.unlink()
            small.unlink()
    helps = [json.loads(probe(HELP, "help")) for _ in range(run.choose(5, 1))]
    return (
        "Synthetic weights in the layout of the released files: fp32 weights, two Adam moments, a VAE "
        "encoder of SDXL's size. Peak memory is what the call added to a process that had torch loaded; the "
        "files were in the page cache. Loading gives fp32 weights from either kind. Of safetensors' read: "
        "the time of `safetensors.torch.load_file` and of `.float()` for each weight. What stays: the "
        "weights in float32.\n\n"
        + table(("model", "file", "size", "load", "of safetensors' read", "peak memory"), rows)
        + "\n\n"
        + table(("model", "convert to fp16", "peak memory", "written"), conversions)
        + "\n\nA judge of the policy i2p, whose texts a model that remembers them, as the nodes' do, reads "
        "once; and the command line's help.\n\n"
        + table(("what", "first", "again"), judges)
        + "\n\n"
        + table(("what", "Python alone", "with it"), [("`lclip --help`", *_both(helps))])
    )


def _read(path: Path) -> float | None:
    """Seconds of safetensors' read in a fresh process; None for another file."""
    return json.loads(probe(READ, path)) if path.suffix == ".safetensors" else None


def _ratio(loads: list[tuple[tuple[float, float], float | None]]) -> str:
    ratios = [seconds / read for (seconds, _), read in loads if read]
    return f"{bootstrap(ratios).text(digits=2)} x" if ratios else ""


def _both(times: list[list[float]]) -> list[str]:
    return [bootstrap(list(each)).text(digits=2, unit=" s") for each in zip(*times, strict=True)]


def measured(call: str, *paths: Path) -> tuple[float, float]:
    """Seconds and added peak MiB of `lclip.<call>(*paths)` in a fresh process."""
    seconds, mebibytes = json.loads(probe(PROBE, call, *paths))
    return seconds, mebibytes


def _seconds(results: list[tuple[float, float]]) -> str:
    return bootstrap([seconds for seconds, _ in results]).text(digits=2, unit=" s")


def _memory(results: list[tuple[float, float]], size: int, what: str) -> str:
    most = max(mebibytes for _, mebibytes in results)
    return f"{most:.0f} MiB ({most / (size / 2**20):.2f} x {what})"


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
