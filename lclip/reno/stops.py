"""When a batch item of a ReNO search stops."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .types import ReNORecord, ReNOSettings


class ItemStops:
    """Which items of one search are still going, and why the others ended."""

    def __init__(self, count: int, settings: ReNOSettings):
        self.settings = settings
        self.active = torch.ones(count, dtype=torch.bool)
        self.reasons = ["iterations"] * count
        self.best = torch.full((count,), -torch.inf)
        self.since_best = torch.zeros(count, dtype=torch.long)
        self.not_finite = torch.zeros(count, dtype=torch.long)
        self.updates = 0

    def update(self, record: ReNORecord, keep_trying: bool = False) -> Tensor:
        """Note the rewards of one iteration and say which items have a new best in this search.

        keep_trying: a reward that is not finite costs a random search one try; it ends a deterministic one,
        which would stand still.
        """
        reward = record.reward
        finite = torch.isfinite(reward)
        self.not_finite += (self.active & ~finite).long()
        better = self.active & finite & (reward > self.best)
        self.best = torch.where(better, reward.to(self.best.dtype), self.best)
        self.since_best = torch.where(better, 0, self.since_best + 1)
        if not keep_trying:
            self.stop(~finite, f"a reward that is not finite at iteration {self.updates}")
        if self.settings.target is not None:
            self.stop(record.best_reward >= self.settings.target, "target")
        if self.settings.patience is not None:
            self.stop(self.since_best >= self.settings.patience, "patience")
        self.updates += 1
        return better

    def stop(self, which: Tensor, why: str) -> None:
        """Freeze items: they are rendered on with the batch, but no longer moved."""
        for item in torch.nonzero(which & self.active).flatten().tolist():
            self.reasons[item] = why
        self.active = self.active & ~which

    def complaints(self) -> Iterator[tuple[int, str]]:
        """What a user should hear about: items that met something not finite."""
        for item, why in enumerate(self.reasons):
            if why.startswith("a "):
                yield item, f"stopped because of {why}"
            elif self.not_finite[item]:
                yield item, f"had a reward that is not finite in {int(self.not_finite[item])} renders"
