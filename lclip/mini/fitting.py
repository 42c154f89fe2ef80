"""The training loop of the mini world: AdamW, cosine schedule, weight averaging, resumable at any step.

Every step draws its batch from a generator seeded by (seed, step), so that a resumed run is the same run.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from ..checkpoint import atomic_file

logger = logging.getLogger("latent-clip")

M = TypeVar("M", bound=nn.Module)
BatchLoss = Callable[[np.random.Generator], torch.Tensor]


@dataclass(frozen=True)
class FitSettings:
    """How long and how fast to train one module."""

    steps: int
    learning_rate: float
    warmup: int = 50
    weight_decay: float = 0.01
    ema_decay: float = 0.995  # of the weights that are kept in the end
    clip_norm: float = 1.0
    save_every: int = 100
    seed: int = 0

    def shortened(self, steps: int | None) -> FitSettings:
        """The same for fewer steps, to try the pipeline; None changes nothing."""
        return self if steps is None else replace(self, steps=steps)


def learning_rate_share(step: int, settings: FitSettings) -> float:
    """Linear warmup, then half a cosine down to 1 % of the peak."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    progress = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * progress))


def fit(
    module: M,
    loss_of: BatchLoss,
    settings: FitSettings,
    checkpoint: Path,
    fast_parameters: tuple[str, ...] = (),
) -> M:
    """Train `module` on `loss_of(rng)` and return the averaged copy; goes on from `checkpoint` when there.

    `fast_parameters` are names that learn five times faster (a logit scale).
    """
    from tqdm import tqdm

    optimizer = _optimizer(module, settings, fast_parameters)
    average = copy.deepcopy(module).requires_grad_(False)
    first = _resume(checkpoint, module, average, optimizer)
    bar = tqdm(
        range(first, settings.steps),
        initial=first,
        total=settings.steps,
        desc=checkpoint.stem,
        dynamic_ncols=True,
        mininterval=5.0,
    )
    smooth = float("nan")
    for step in bar:
        for group in optimizer.param_groups:
            share = learning_rate_share(step, settings)
            group["lr"] = settings.learning_rate * share * group["speed"]
        torch.manual_seed(settings.seed * 1_000_003 + step)
        loss = loss_of(np.random.default_rng([settings.seed, step]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), settings.clip_norm)
        optimizer.step()
        _update_average(average, module, min(settings.ema_decay, (step + 1) / (step + 10)))
        smooth = loss.item() if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss.item()
        bar.set_postfix(loss=f"{smooth:.4f}", refresh=False)
        if (step + 1) % settings.save_every == 0 or step + 1 == settings.steps:
            _save(checkpoint, step + 1, module, average, optimizer)
    return average.eval()


def _optimizer(module: nn.Module, settings: FitSettings, fast: tuple[str, ...]) -> torch.optim.Optimizer:
    """Weight decay on matrices only."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        key = (settings.weight_decay if parameter.ndim > 1 else 0.0, 5.0 if name in fast else 1.0)
        groups.setdefault(key, []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": decay, "speed": speed}
            for (decay, speed), parameters in groups.items()
        ],
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
    )


@torch.no_grad()
def _update_average(average: nn.Module, module: nn.Module, decay: float) -> None:
    for kept, new in zip(average.parameters(), module.parameters(), strict=True):
        kept.lerp_(new, 1.0 - decay)


def _save(
    path: Path, step: int, module: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "step": step,
        "module": module.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with atomic_file(path) as temporary:
        torch.save(state, temporary)


def _resume(path: Path, module: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    module.load_state_dict(state["module"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    logger.info("going on with %s from step %d", path.stem, state["step"])
    return state["step"]
