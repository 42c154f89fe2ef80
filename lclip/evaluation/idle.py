"""Variants that have nothing to do as a run is set, so that their pictures are the plain ones."""

from __future__ import annotations

from .making import Generation
from .pipelines import AWAY, GUIDANCE, RENO


def idle(run: Generation) -> list[str]:
    """Of each such variant why, in words."""
    efforts, steps = getattr(run.maker, "efforts", None), getattr(run.maker, "steps", None)
    if efforts is None:
        return []
    once = "its first picture is the plain one, and --iterations is 1", "--iterations 2"
    reasons = {
        GUIDANCE: steps == 1 and ("no first step is guided, and there is one step", "--steps 2"),
        RENO: efforts.iterations == 1 and once,
        AWAY: efforts.iterations == 1 and once,
    }
    return [
        f"{name}: {reason[0]}, so these pictures are the plain ones, and their figures say nothing of "
        f"{name}. Give {reason[1]} or more, or leave it out by --variants"
        for name in run.batch.variants
        if (reason := reasons.get(name))
    ]
