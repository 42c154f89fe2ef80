"""Shards by Ray Data: on this machine, or on the cluster that the environment variable RAY_ADDRESS names.

On a cluster every machine needs this library, and the same files and folders under the same paths: only the
names of shards travel.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..data.items import one_line
from ..data.shards import Shard
from ..data.tally import Tally
from .outcomes import Outcome, outcome_of, threads_each
from .parts import Work

STORE_BYTES = 100 << 20  # of Ray's object store: nothing large goes through it


def with_ray(shards: Iterable[Shard], work: Work, workers: int) -> Iterator[Outcome]:
    """Outcomes by that many workers of Ray Data."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray  # pyright: ignore[reportMissingImports]
    import ray.data  # pyright: ignore[reportMissingImports]
    from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]

    waiting = {f"{shard.name} {shard.digest()}": shard for shard in shards}
    if not waiting:
        return
    _start(ray, workers)
    actor: Any = _Actor
    try:
        rows = ray.data.from_items(
            [_row(key, shard) for key, shard in waiting.items()], override_num_blocks=len(waiting)
        )
        outcomes = rows.map(
            actor,
            fn_constructor_args=(work, threads_each(workers)),
            concurrency=workers,
            num_cpus=1,
            num_gpus=min(1.0, ray.cluster_resources().get("GPU", 0) / workers),
            max_restarts=2,
            max_task_retries=2,
        )
        for row in outcomes.iter_rows():
            tally = Tally.of(json.loads(row["tally"])) if row["tally"] else None
            yield Outcome(waiting.pop(os.fsdecode(bytes(row["key"]))), tally, row["error"])
    except RayError as error:
        for shard in waiting.values():
            yield Outcome(shard, None, one_line(error)[:300])
    finally:
        ray.shutdown()


def _start(ray: Any, workers: int) -> None:
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
    else:
        alone = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}  # no other machine can reach it
        ray.init(num_cpus=workers, object_store_memory=STORE_BYTES, **alone, **quiet)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def _row(key: str, shard: Shard) -> dict[str, Any]:
    return {
        "key": os.fsencode(key),
        "name": os.fsencode(shard.name),
        "files": [os.fsencode(path) for path in shard.files],
    }


class _Actor:
    """A row with a shard becomes a row with its outcome."""

    def __init__(self, work: Work, threads: int):
        self.worker = work.start(threads)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        files = tuple(Path(os.fsdecode(bytes(name))) for name in row["files"])
        outcome = outcome_of(Shard(os.fsdecode(bytes(row["name"])), files), self.worker)
        tally = json.dumps(outcome.tally.plain()) if outcome.tally else ""
        return {"key": row["key"], "tally": tally, "error": outcome.error}
