"""Searches without gradients: which noise to try next, given the best so far and fresh noise."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .maths import neighbour

Proposal = Callable[[Tensor, Tensor, float], Tensor]
"""(best noise so far, fresh N(0, I) noise, radius) -> noise to try, all [B, ...]; the settings' radius."""


def best_of_n(best: Tensor, fresh: Tensor, radius: float) -> Tensor:
    """Fresh noise each time."""
    return fresh


def zero_order(best: Tensor, fresh: Tensor, radius: float) -> Tensor:
    """A neighbour of the best."""
    return neighbour(best, fresh, radius)


PROPOSALS: dict[str, Proposal] = {propose.__name__: propose for propose in (best_of_n, zero_order)}
