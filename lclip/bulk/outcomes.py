"""What became of a shard, whichever engine did it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..data.items import one_line
from ..data.shards import Shard
from ..data.tally import Tally
from .parts import Worker


@dataclass(frozen=True)
class Outcome:
    """What became of a shard: counts, or why there are none."""

    shard: Shard
    tally: Tally | None
    error: str = ""


def outcome_of(shard: Shard, worker: Worker) -> Outcome:
    """Do one shard."""
    try:
        return Outcome(shard, worker(shard))
    except Exception as error:  # whatever it is, the other shards go on and this one is reported
        return Outcome(shard, None, one_line(error))


def threads_each(workers: int) -> int:
    """Torch's threads in each worker: OMP_NUM_THREADS, or an equal share of the cores."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() and int(wanted) else max(1, (os.cpu_count() or 1) // workers)
