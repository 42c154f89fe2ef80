"""A cycle of training: one run of the learning rate's cosine."""

from __future__ import annotations

from dataclasses import dataclass

from ..training.loop import FitSettings


@dataclass(frozen=True)
class Cycle:
    """What every cycle has; each training adds what its batches are made of."""

    settings: FitSettings
