"""Doing the shards: in this process, in several (`processes`), or by Ray (`ray_actors`).

An engine takes shards and gives outcomes, in any order. A shard that fails does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.util import find_spec

from ..data.shards import Shard
from .outcomes import Outcome, outcome_of, threads_each
from .parts import Work, Worker
from .processes import in_processes
from .ray_actors import with_ray

ENGINES = ("auto", "plain", "ray")
NO_RAY = 'ray is not installed. Install the extra (pip install "latent-clip[bulk]"), or use --engine plain'


Engine = Callable[[Iterable[Shard]], Iterator[Outcome]]


def choose_engine(name: str, workers: int) -> str:
    """What does the work: "here", "processes" or "ray". ValueError for ray where it is not installed.

    auto: for several workers ray where it is installed; plain: never ray.
    """
    if name not in ENGINES or workers < 1:
        raise ValueError(f"engine {name!r}, {workers} workers; expected {' or '.join(ENGINES)}, at least 1")
    installed = find_spec("ray") is not None
    if name == "ray" and not installed:
        raise ValueError(NO_RAY)
    if name == "ray" or (name == "auto" and workers > 1 and installed):
        return "ray"
    return "processes" if workers > 1 else "here"


def work_off(shards: Iterable[Shard], work: Work, workers: int, engine: str, worker: Worker | None = None):
    """Outcomes of all shards: Iterator[Outcome]. A shard that fails is tried once more, after the others.

    engine: as `choose_engine` says. worker: for "here". The second try is in a process of its own, so that
    a shard that kills its worker takes no other with it.
    """
    if engine == "here":
        first: Engine = partial(here, worker=worker or work.start(threads_each(1)))
        again = first
    else:
        first = partial(in_processes if engine == "processes" else with_ray, work=work, workers=workers)
        again = partial(in_processes, work=work, workers=1)
    failed = []
    for outcome in first(shards):
        if outcome.tally is None:
            failed.append(outcome.shard)
        else:
            yield outcome
    if failed:
        yield from again(failed)


def here(shards: Iterable[Shard], worker: Worker) -> Iterator[Outcome]:
    """One shard after the other, in this process."""
    for shard in shards:
        yield outcome_of(shard, worker)
