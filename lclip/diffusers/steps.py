"""The steps of diffusers' schedulers: what clean latents each predicts, and how to move them.

A sample is x = a x0 + s n, and the model predicts n, x0, a n - s x0 (Salimans and Ho 2022), or the flow
n - x0 of x = (1 - s) x0 + s n. So x0 = p x + q m of the sample x and the model's output m, with two numbers
of the schedule, and a move of x0 is the same move of m, divided by q. The scheduler then goes on as if the
model had said so: that holds for those with a memory of earlier steps, and for those that add noise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor

Move = Callable[[Tensor], Tensor]
"""Predicted clean latents, as the sampler has them -> moved ones."""
Rows = Callable[[], Tensor | None]
"""Which rows of the batch go on after the step; None: all, as they are."""

BY_SIGMA = ("EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "LMSDiscrete")
"""Schedulers whose samples are x0 + sigma n, and which scale what the model sees."""
BY_TIME = ("DDIM", "DDIMParallel", "DDPM", "DDPMParallel", "LCM", "TCD", "PNDM")
"""Schedulers that work by the products of alphas."""
BY_BOTH = ("DPMSolverMultistep", "DPMSolverSinglestep", "UniPCMultistep", "DEISMultistep", "SASolver")
"""Schedulers that turn a sigma into a and s."""
FLOWS = ("FlowMatchEulerDiscrete", "FlowMatchLCM")


def family(scheduler: Any) -> str:
    """A scheduler's name, short. ValueError for one whose predicted x0 is not known."""
    name = type(scheduler).__name__.removesuffix("Scheduler")
    known = (*FLOWS, *BY_SIGMA, *BY_TIME, *BY_BOTH)
    if name not in known:
        raise ValueError(
            f"the clean latents that {name}Scheduler predicts are not known; expected one of "
            f"{', '.join(known)}. Set another: pipe.scheduler = EulerDiscreteScheduler.from_config("
            "pipe.scheduler.config)"
        )
    return name


def clean_parts(scheduler: Any, timestep: Any) -> tuple[float, float]:
    """p and q of x0 = p x + q m, at a timestep that is about to be made. Raises ValueError."""
    name = family(scheduler)
    kind = scheduler.config.get("prediction_type", "epsilon")
    if name in FLOWS or kind == "flow_prediction":
        return 1.0, -_sigma(scheduler, timestep)
    scale = 1.0
    if name in BY_SIGMA:
        sigma = _sigma(scheduler, timestep)
        a = scale = (1 + sigma**2) ** -0.5
        s = sigma * a
    elif name in BY_BOTH:
        a, s = map(float, scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[_index(scheduler, timestep)]))
    else:
        product = float(scheduler.alphas_cumprod[int(timestep)])
        a, s = product**0.5, (1 - product) ** 0.5
    if kind == "epsilon":
        return scale / a, -s / a
    if kind == "v_prediction":
        return a * scale, -s
    if kind == "sample":
        return 0.0, 1.0
    raise ValueError(f"the scheduler's prediction_type is {kind!r}; expected epsilon, v_prediction or sample")


def _sigma(scheduler: Any, timestep: Any) -> float:
    return float(scheduler.sigmas[_index(scheduler, timestep)])


def _index(scheduler: Any, timestep: Any) -> int:
    if scheduler.step_index is not None:
        return scheduler.step_index
    begin = scheduler.begin_index
    return begin if begin is not None else scheduler.index_for_timestep(timestep)


class Steps:
    """Stands in for a scheduler's `step` as long as somebody moves what it predicts.

    Movers belong to one schedule, the timesteps that were set when they came: with the next call of the
    pipeline they are gone, even where this one was interrupted.
    """

    def __init__(self, scheduler: Any) -> None:
        self.scheduler, self.step = scheduler, scheduler.step
        self.movers: dict[int, tuple[Any, Move, Rows | None]] = {}
        functools.update_wrapper(self, self.step)  # pipelines look at the names of its parameters

    @classmethod
    def of(cls, scheduler: Any) -> Steps:
        """Those of a scheduler, put in place where they are not."""
        family(scheduler)
        if not isinstance(scheduler.__dict__.get("step"), cls):
            scheduler.step = cls(scheduler)
        return scheduler.step

    def add(self, owner: Any, move: Move, rows: Rows | None = None, lasting: bool = False) -> None:
        """Let the owner move every predicted x0 of the schedule that is set; once however often it asks.

        lasting: of other schedules too, until it is removed.
        """
        self.movers[id(owner)] = (None if lasting else self.scheduler.timesteps, move, rows)

    def remove(self, owner: Any) -> None:
        """The owner moves nothing any more; with the last of them, the scheduler is as it was."""
        self.movers.pop(id(owner), None)
        if not self.movers:
            self.scheduler.__dict__.pop("step", None)

    def __call__(self, model_output: Tensor, timestep: Any, sample: Tensor, *rest: Any, **named: Any) -> Any:
        self._forget()
        for _, move, _ in list(self.movers.values()):
            model_output = self._moved(move, model_output, timestep, sample)
        taken = self.step(model_output, timestep, sample, *rest, **named)
        for _, _, rows in list(self.movers.values()):
            chosen = rows() if rows is not None else None
            if chosen is not None:
                taken = (taken[0][chosen.to(taken[0].device)], *taken[1:])
        return taken

    def _forget(self) -> None:
        for key, (timesteps, *_) in list(self.movers.items()):
            if timesteps is not None and timesteps is not self.scheduler.timesteps:
                del self.movers[key]
        if not self.movers:
            self.scheduler.__dict__.pop("step", None)

    def _moved(self, move: Move, output: Tensor, timestep: Any, sample: Tensor) -> Tensor:
        p, q = clean_parts(self.scheduler, timestep)
        x0 = p * sample.float() + q * output.float()
        moved = move(x0)
        return output if moved is x0 or q == 0 else output + ((moved - x0) / q).to(output.dtype)
