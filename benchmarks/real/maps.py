"""Learning the maps that ship: SDXL's latents at half the size, and other spaces' latents as SDXL's.

    python -m benchmarks.real maps [NAME ...]

Each is an adapter (`lclip.LatentAdapter`), learnt from what the way through pixels gives, which is a function
of what the map reads. Steps, size, and which weights are kept were chosen on dev crops.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import lclip
from lclip.adapters.adapter import Adapter, AdapterFigures, AdapterShape, LatentAdapter
from lclip.adapters.interposer import Interposer
from lclip.adapters.shipped import FOLDER, MAPS, SHIPPED
from lclip.adapters.training import AVERAGE, LAST_SHARE, solve_linear, standardise
from lclip.descent import WeightAverage, cosine_share
from lclip.training.muon import Muon

from .crops import Latents, load_crops

TRAIN, DEV = 200, 40  # crops
BATCH, RATE, WARMUP, CHECK = 8, 3e-3, 50, 60
ANCHOR_WIDTH, ANCHOR_BLOCKS = 64, 12  # of the published interposers
TIMED = 10  # steps that say how many fit into the seconds


@dataclass(frozen=True)
class Plan:
    """What a map reads and how large it is. reads: a name of `crops`."""

    file: str
    reads: str
    source: str
    width: int
    depth: int
    steps: int
    shrink: int = 1


PLANS = {
    "sdxl-half": Plan(MAPS["sdxl"], "large", "sdxl", 80, 3, 1500, shrink=2),
    "flux": Plan(SHIPPED["flux"], "flux", "flux", 80, 3, 400),
    "sd3": Plan(SHIPPED["sd3"], "sd3", "sd3", 64, 2, 1200),
    "sd1.5": Plan(SHIPPED["sd1.5"], "sd1.5", "sd1.5", 64, 2, 1200),
    "flux2": Plan(SHIPPED["flux2"], "flux2", "flux2", 64, 2, 400),
}


def make(name: str, cache: Path, say: Callable[[str], None] = print) -> Path:
    """Learn a map and write it where the library reads it. Returns the path."""
    plan = PLANS[name]
    train = load_crops(cache, "train", TRAIN, (plan.reads,), say)
    dev = load_crops(cache, "dev", DEV, (plan.reads,), say)
    start = time.perf_counter()
    adapter = learn(plan, train, dev, say)
    error = relative_error(adapter(dev[plan.reads]), dev["sdxl"])
    adapter.figures = AdapterFigures(
        TRAIN + DEV, DEV, error, None, plan.steps, round(time.perf_counter() - start, 1)
    )
    return write(adapter, plan)


def write(adapter: LatentAdapter, plan: Plan) -> Path:
    """Store a map in half precision, small."""
    return lclip.save_adapter(adapter, FOLDER / plan.file, torch.float16)


def learn(plan: Plan, train: Latents, dev: Latents, say: Callable[[str], None] = print) -> LatentAdapter:
    """A map from a linear start; of its averaged weights those are kept that do best on dev crops."""
    torch.manual_seed(0)
    source, goal = _pairs(plan, train)
    adapter = LatentAdapter(_shape(plan, plan.width, plan.depth, plan.shrink))
    with torch.no_grad():
        standardise(adapter, source, goal)
        solve_linear(adapter, source, goal, 0)
    average = WeightAverage(adapter, AVERAGE)
    best, least = copy.deepcopy(average.module), math.inf
    for step in _descent(adapter, source, goal, plan.steps):
        average.update(adapter, step - 1)
        if step % CHECK == 0 or step == plan.steps:
            found = relative_error(average.module(dev[plan.reads]), dev[f"{plan.reads} through"])
            say(f"{plan.file}: step {step} of {plan.steps}, error {found:.4f}")
            if found < least:
                best, least = copy.deepcopy(average.module), found
    return best.eval().requires_grad_(False)


def learn_anchor(
    plan: Plan, train: Latents, dev: Latents, seconds: float, say: Callable[[str], None] = print
) -> Interposer:
    """SD-Latent-Interposer's architecture in the place of ours: same pictures, loss and choice on dev, and as
    many seconds."""
    torch.manual_seed(0)
    source, goal = _pairs(plan, train)
    anchor = Interposer(_shape(plan, ANCHOR_WIDTH, ANCHOR_BLOCKS, plan.shrink))
    start = time.perf_counter()
    for _ in _descent(copy.deepcopy(anchor), source, goal, TIMED):
        pass
    steps = max(1, round(seconds * TIMED / (time.perf_counter() - start)))
    best, least = copy.deepcopy(anchor), math.inf
    for step in _descent(anchor, source, goal, steps):
        if step % CHECK == 0 or step == steps:
            found = relative_error(anchor.eval()(dev[plan.reads]), dev[f"{plan.reads} through"])
            say(f"the anchor for {plan.source}: step {step} of {steps}, error {found:.4f}")
            if found < least:
                best, least = copy.deepcopy(anchor), found
            anchor.train()
    return best.eval().requires_grad_(False)


def _shape(plan: Plan, width: int, depth: int, shrink: int) -> AdapterShape:
    return AdapterShape(lclip.space_named(plan.source), lclip.space_named("sdxl"), width, depth, shrink)


def _pairs(plan: Plan, train: Latents) -> tuple[Tensor, Tensor]:
    """What a map reads, and what it is to give, samplers' slips included where there are some."""
    names = [name for name in (plan.reads, f"{plan.reads} off") if name in train]
    return torch.cat([train[name] for name in names]), torch.cat([train[f"{name} through"] for name in names])


def _descent(adapter: Adapter, source: Tensor, goal: Tensor, steps: int) -> Iterator[int]:
    """Train a map, and give the number of each step after it."""
    spread = goal.std((0, 2, 3), keepdim=True)
    trained = [parameter for parameter in adapter.parameters() if parameter.requires_grad]
    kernels = [parameter for parameter in trained if parameter.ndim > 1]
    vectors = [parameter for parameter in trained if parameter.ndim == 1]
    optimizers = (Muon(kernels, RATE), torch.optim.AdamW(vectors, RATE, betas=(0.9, 0.98)))
    draws = torch.Generator().manual_seed(1)
    for step in range(1, steps + 1):
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = RATE * cosine_share(step - 1, steps, WARMUP, LAST_SHARE)
        chosen = torch.randint(len(source), (BATCH,), generator=draws)
        error = (adapter(source[chosen]) - goal[chosen]) / spread
        for optimizer in optimizers:
            optimizer.zero_grad()
        error.square().mean().backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        yield step


@torch.no_grad()
def relative_error(z: Tensor, wanted: Tensor) -> float:
    """Squared error as a share of the variance of what was wanted."""
    return float((z - wanted).square().mean() / wanted.var())
