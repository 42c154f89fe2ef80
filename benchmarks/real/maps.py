"""Learning the maps that ship: SDXL's latents at half the size, and other spaces' latents as SDXL's.

    python -m benchmarks.real maps [NAME ...]

Each is an adapter (`lclip.LatentAdapter`), learnt from what the way through pixels gives, which is a function
of what the map reads. Squared error alone goes grey, so that two things are added: the error of what SDXL's
decoder sees in the latents, and that of their spread. Sizes, steps and weights were chosen on dev crops.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
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

from .crops import NATIVE, READS_BETWEEN, READS_LARGE, TRAINED, Latents, load_crops
from .taesd import load_taesd

DEV = 100  # crops
BATCH, RATE, WARMUP, CHECK = 16, 3e-3, 50, 100
SEEN, SPREAD = 1.0, 3.0  # weights of what is added to the squared error
ANCHOR_WIDTH, ANCHOR_BLOCKS = 64, 12  # of the published interposers
TIMED = 10  # steps that say how many fit into the seconds


@dataclass(frozen=True)
class Plan:
    """What a map reads and how large it is. reads: names of `crops`; crops: so many of each to learn from."""

    file: str
    reads: tuple[str, ...]
    crops: int
    source: str
    width: int
    depth: int
    steps: int
    shrink: int = 1


PLANS = {
    "sdxl-half": Plan(MAPS["sdxl"], (READS_LARGE, READS_BETWEEN), 600, "sdxl", 80, 4, 2000, shrink=2),
    "flux": Plan(SHIPPED["flux"], ("flux",), 1000, "flux", 96, 4, 1800),
    "sd3": Plan(SHIPPED["sd3"], ("sd3",), 1000, "sd3", 96, 4, 1200),
    "sd1.5": Plan(SHIPPED["sd1.5"], ("sd1.5",), 1000, "sd1.5", 96, 4, 1200),
    "flux2": Plan(SHIPPED["flux2"], ("flux2",), 1000, "flux2", 88, 4, 1200),
}


def make(name: str, cache: Path, say: Callable[[str], None] = print) -> Path:
    """Learn a map and write it where the library reads it. Returns the path."""
    plan = PLANS[name]
    train, dev = of_plan(plan, cache, say)
    start = time.perf_counter()
    adapter = learn(plan, train, dev, say=say)
    seconds = round(time.perf_counter() - start, 1)
    error = relative_error(adapter(_of(dev, plan.reads)), dev[NATIVE].repeat(len(plan.reads), 1, 1, 1))
    number = plan.crops * len(plan.reads)
    adapter.figures = AdapterFigures(number + DEV, DEV, error, None, plan.steps, seconds)
    return write(adapter, plan)


def of_plan(
    plan: Plan, cache: Path, say: Callable[[str], None] = print, dev: int = DEV
) -> tuple[Latents, Latents]:
    """The crops to learn from, and those to choose by."""
    wanted = {"train": plan.crops, "dev": dev}
    train, chosen = (load_crops(cache, split, number, plan.reads, say) for split, number in wanted.items())
    return train, chosen


def write(adapter: LatentAdapter, plan: Plan) -> Path:
    """Store a map in half precision, small."""
    return lclip.save_adapter(adapter, FOLDER / plan.file, torch.float16)


def learn(
    plan: Plan,
    train: Latents,
    dev: Latents,
    seconds: float | None = None,
    say: Callable[[str], None] = print,
) -> LatentAdapter:
    """A map from a linear start: the average of its weights at the end.

    seconds: how long, instead of the plan's steps.
    """
    torch.manual_seed(0)
    adapter = LatentAdapter(_shape(plan, plan.width, plan.depth, plan.shrink))
    with torch.no_grad():
        source, goal = _of(train, plan.reads), _of(train, plan.reads, " through")
        standardise(adapter, source, goal)
        solve_linear(adapter, source, goal, 0)
    average = WeightAverage(adapter, AVERAGE)
    for step in _descent(adapter, plan, train, seconds):
        average.update(adapter, step - 1)
        if step % CHECK == 0:
            say(f"{plan.file}: step {step}, error {_error(average.module, plan, dev):.4f}")
    return average.module.eval().requires_grad_(False)


def learn_anchor(
    plan: Plan, train: Latents, dev: Latents, seconds: float, say: Callable[[str], None] = print
) -> Interposer:
    """SD-Latent-Interposer's architecture in the place of ours: same pictures and losses, as many seconds."""
    torch.manual_seed(0)
    anchor = Interposer(_shape(plan, ANCHOR_WIDTH, ANCHOR_BLOCKS, plan.shrink))
    for step in _descent(anchor, plan, train, seconds):
        if step % CHECK == 0:
            say(f"the anchor for {plan.source}: step {step}, error {_error(anchor.eval(), plan, dev):.4f}")
            anchor.train()
    return anchor.eval().requires_grad_(False)


def _shape(plan: Plan, width: int, depth: int, shrink: int) -> AdapterShape:
    return AdapterShape(lclip.space_named(plan.source), lclip.space_named("sdxl"), width, depth, shrink)


def _of(crops: Latents, reads: Sequence[str], what: str = "") -> Tensor:
    return torch.cat([crops[read + what] for read in reads])


def _descent(adapter: Adapter, plan: Plan, train: Latents, seconds: float | None) -> Iterator[int]:
    """Train a map, and give the number of each step after it."""
    source, goal = _of(train, plan.reads), _of(train, plan.reads, " through")
    loss_of = _Loss(goal)
    trained = [parameter for parameter in adapter.parameters() if parameter.requires_grad]
    kernels = [parameter for parameter in trained if parameter.ndim > 1]
    vectors = [parameter for parameter in trained if parameter.ndim == 1]
    optimizers = (Muon(kernels, RATE), torch.optim.AdamW(vectors, RATE, betas=(0.9, 0.98)))
    draws, left = torch.Generator().manual_seed(1), torch.empty(0, dtype=torch.long)
    step, steps, start = 0, plan.steps, time.perf_counter()
    while step < steps:
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = RATE * cosine_share(step, steps, WARMUP, LAST_SHARE)
        if len(left) < BATCH:
            left = torch.randperm(len(source), generator=draws)
        chosen, left = left[:BATCH], left[BATCH:]
        with torch.autocast("cpu", TRAINED):
            mapped = adapter(source[chosen])
        loss = loss_of(mapped.float(), goal[chosen])
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        step += 1
        if step == TIMED and seconds is not None:
            steps = max(TIMED, round(seconds * TIMED / (time.perf_counter() - start)))
        yield step


class _Loss:
    """Squared error in units of the spread, that of what the decoder sees, and that of the spread itself."""

    def __init__(self, goal: Tensor) -> None:
        self.spread = goal.std((0, 2, 3), keepdim=True)
        self.sdxl = load_taesd("sdxl").quick(TRAINED)

    def __call__(self, z: Tensor, goal: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.sdxl.seen(goal.to(TRAINED)).float()
        seen = (self.sdxl.seen(z.to(TRAINED)).float() - wanted).square().mean() / wanted.var()
        spread = (z.std((0, 2, 3)) / goal.std((0, 2, 3)) - 1).square().mean()
        return ((z - goal) / self.spread).square().mean() + SEEN * seen + SPREAD * spread


def _error(adapter: Adapter, plan: Plan, dev: Latents) -> float:
    """What is left to the way through pixels, on dev crops."""
    with torch.inference_mode():
        return relative_error(adapter(_of(dev, plan.reads)), _of(dev, plan.reads, " through"))


@torch.no_grad()
def relative_error(z: Tensor, wanted: Tensor) -> float:
    """Squared error as a share of the variance of what was wanted."""
    return float((z - wanted).square().mean() / wanted.var())
