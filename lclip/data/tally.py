"""What was read and what became of it: how many items, and how many stood out or were left out, and why."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

logger = logging.getLogger("latent-clip")

SHOWN = 5  # mistakes of each kind that are logged one by one


@dataclass
class Tally:
    """Counts by reason, and the first of each reason in words.

    items: how many were read, whatever became of them; 0 where only what is left out is counted. muted:
    nothing is counted, where the same data is read once more.
    """

    items: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    muted: bool = False

    def count(self, reason: str, number: int = 1, first: str = "") -> None:
        """So many more of a reason. first: which it was, kept where it is the first."""
        if self.muted or not number:
            return
        self.counts[reason] += number
        if first:
            self.first.setdefault(reason, first)

    def skip(self, reason: str, where: str, detail: str = "") -> None:
        """Count what is left out; the first of each reason are logged."""
        if self.muted:
            return
        which = where + (f" ({detail})" if detail else "")
        self.count(reason, 1, which)
        if self.counts[reason] <= SHOWN:
            more = "; further ones are only counted" if self.counts[reason] == SHOWN else ""
            logger.warning("skipped: %s: %s%s", reason, which, more)

    def add(self, other: Tally) -> None:
        """Count what another counted too."""
        self.items += other.items
        for reason, number in other.counts.items():
            self.count(reason, number, other.first.get(reason, ""))

    def text(self) -> str:
        """The counts in one line."""
        return ", ".join(f"{number} {reason}" for reason, number in sorted(self.counts.items())) or "none"

    def plain(self) -> dict[str, Any]:
        """As JSON knows it."""
        return {"items": self.items, "counts": dict(self.counts), "first": self.first}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Tally:
        """What `plain` gave."""
        return cls(plain["items"], Counter(plain["counts"]), dict(plain["first"]))
