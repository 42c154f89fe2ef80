"""What a training leaves out: samples and shards, counted by reason."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from ..data.items import one_line
from ..data.samples import Sample
from ..data.shards import Shard, ShardError

logger = logging.getLogger("latent-clip")

SHOWN = 5  # mistakes of each kind that are logged one by one


class Skips:
    """How many samples and shards were left out, by reason; the first of each reason are logged.

    muted: nothing is counted, where the same data is read once more.
    """

    def __init__(self, counts: dict[str, int] | None = None, muted: bool = False) -> None:
        self.counts, self.muted = Counter(counts or {}), muted

    def skip(self, reason: str, where: str, detail: str = "") -> None:
        if self.muted:
            return
        self.counts[reason] += 1
        if self.counts[reason] <= SHOWN:
            more = "; further ones are only counted" if self.counts[reason] == SHOWN else ""
            logger.warning("skipped: %s: %s%s%s", reason, where, f" ({detail})" if detail else "", more)

    def text(self) -> str:
        """The counts in one line."""
        return ", ".join(f"{number} {reason}" for reason, number in sorted(self.counts.items())) or "none"


def samples_of(shard: Shard, skips: Skips) -> Iterator[Sample]:
    """A shard's samples; their keys begin with the shard's name. What is damaged is counted, never raised."""
    try:
        for sample in shard.samples():
            yield sample if shard.loose else replace(sample, key=f"{shard.name}/{sample.key}")
    except (ShardError, OSError) as error:
        skips.skip("damaged shard", shard.name, one_line(error)[:200])
