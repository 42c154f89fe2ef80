"""Shards in several processes of one machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

from ..data.shards import Shard
from .outcomes import Outcome, outcome_of, threads_each
from .parts import Work, Worker

WORKER_ENDED = "its worker ended: killed, or out of memory"
FRUITLESS = 3  # pools in a row that broke before they did anything


def in_processes(shards: Iterable[Shard], work: Work, workers: int) -> Iterator[Outcome]:
    """Outcomes by that many processes. When one is killed, its shard fails, and new processes go on.

    ChildProcessError where processes end before they do anything.
    """
    shards, fruitless, more = iter(shards), 0, True
    while more:
        more, any_done = False, False
        # spawn: a forked process inherits threads' locks, and no accelerator works in it.
        context = multiprocessing.get_context("spawn")
        start = (work, threads_each(workers))
        with ProcessPoolExecutor(workers, context, initializer=_start, initargs=start) as pool:
            try:
                for outcome in _in_pool(pool, shards, 2 * workers if workers > 1 else 1):
                    more = more or outcome.error == WORKER_ENDED
                    any_done = any_done or outcome.error != WORKER_ENDED
                    yield outcome
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        fruitless = 0 if any_done else fruitless + 1
        if more and fruitless == FRUITLESS:
            raise ChildProcessError("worker processes end as soon as they start: try --workers 1 to see why")


def _in_pool(pool: ProcessPoolExecutor, shards: Iterator[Shard], at_once: int) -> Iterator[Outcome]:
    """Until the shards are at their end, or the pool is broken."""
    waiting: dict[Future[Outcome], Shard] = {}
    broken = False
    while True:
        for shard in islice(shards, 0 if broken else at_once - len(waiting)):
            try:
                waiting[pool.submit(_do, shard)] = shard
            except BrokenProcessPool:
                broken = True
                yield Outcome(shard, None, WORKER_ENDED)
                break
        if not waiting:
            return
        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
            shard = waiting.pop(future)
            try:
                yield future.result()
            except BrokenProcessPool:
                broken = True
                yield Outcome(shard, None, WORKER_ENDED)


_worker: Worker | None = None


def _start(work: Work, threads: int) -> None:
    """Begin a process of the pool."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupt ends it at once, without a word
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = work.start(threads)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(shard: Shard) -> Outcome:
    if _worker is None:
        raise RuntimeError("the process was not started by in_processes")
    return outcome_of(shard, _worker)
