"""Shards by Ray: on this machine, or on the cluster that the environment variable RAY_ADDRESS names.

On a cluster every machine needs this library, and the same files and folders under the same paths: only the
names of shards travel. Plain actors of Ray, one shard each at a time: Ray Data would try a shard that kills
its worker for ever, and its arguments against that are to go.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from ..data.items import one_line
from ..data.shards import Shard
from .outcomes import Outcome, outcome_of, threads_each
from .parts import Work

STORE_BYTES = 100 << 20  # of Ray's object store: nothing large goes through it


def with_ray(shards: Iterable[Shard], work: Work, workers: int) -> Iterator[Outcome]:
    """Outcomes by that many workers. A shard that kills its worker has failed, and another worker starts.

    ChildProcessError where Ray or its workers do not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray  # pyright: ignore[reportMissingImports]
    from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]

    waiting = list(shards)
    if not waiting:
        return
    _start(ray, workers)
    gpus = min(1.0, ray.cluster_resources().get("GPU", 0) / workers)
    remote = ray.remote(num_cpus=1, num_gpus=gpus)(_Actor)
    waiting.reverse()
    running: dict[Any, tuple[Any, Shard]] = {}

    def begin(actor: Any) -> None:
        if waiting:
            shard = waiting.pop()
            running[actor.outcome.remote(shard)] = (actor, shard)

    try:
        first = remote.remote(work, threads_each(workers))
        _await(ray, first, RayError)
        begin(first)
        for _ in range(min(workers - 1, len(waiting))):
            begin(remote.remote(work, threads_each(workers)))
        while running:
            (done, *_), _ = ray.wait(list(running))
            actor, shard = running.pop(done)
            try:
                outcome = ray.get(done)
            except RayError as error:
                outcome = Outcome(shard, None, one_line(error)[:300])
                actor = remote.remote(work, threads_each(workers))
            begin(actor)
            yield outcome
    finally:
        ray.shutdown()


def _start(ray: Any, workers: int) -> None:
    """Twice where need be: Ray gives a node 30 seconds, which is little on a machine that is busy."""
    for again in (True, False):
        try:
            return _init(ray, workers)
        except Exception as error:  # Ray raises plain ones
            ray.shutdown()
            if again:
                continue
            raise ChildProcessError(
                f"Ray did not start: {one_line(error)[:200]}. Try again, or take --engine plain"
            ) from error


def _init(ray: Any, workers: int) -> None:
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
    else:  # where no other machine can reach it
        alone = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        ray.init(num_cpus=workers, object_store_memory=STORE_BYTES, **alone, **quiet)


def _await(ray: Any, actor: Any, problem: type[Exception]) -> None:
    """ChildProcessError where a worker cannot start: no other could."""
    try:
        ray.get(actor.ready.remote())
    except problem as error:
        raise ChildProcessError(f"the workers end as soon as they start: {one_line(error)[-300:]}") from error


class _Actor:
    """A worker with a model of its own."""

    def __init__(self, work: Work, threads: int) -> None:
        self.worker = work.start(threads)

    def ready(self) -> bool:
        """Answered once it has started."""
        return True

    def outcome(self, shard: Shard) -> Outcome:
        return outcome_of(shard, self.worker)
