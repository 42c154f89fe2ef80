"""A question asked by several processes, or by Ray: a table for each part of the input, read back as one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bulk.engines import choose_engine, work_off
from ..bulk.parts import PartsFolder, Work, table_name
from ..bulk.questions import ModelSource, Question
from ..bulk.tables import all_columns, parse_lines
from ..data.items import LatentItem
from ..data.shards import Shard
from ..data.tally import Tally
from .gallery import NUMBER, Gallery
from .items import Inputs

SUFFIX = ".jsonl"
Texts = Callable[[Iterable[LatentItem]], Iterator[LatentItem]]


@dataclass(frozen=True)
class Crew:
    """Who asks: so many workers, each with a model of its own. engine: as `choose_engine` takes it."""

    source: ModelSource
    workers: int = 1
    engine: str = "auto"

    @property
    def several(self) -> bool:
        """Whether it is more than this process."""
        return choose_engine(self.engine, self.workers) != "here"


@dataclass(frozen=True)
class Reading:
    """What a worker reads of a part of the input; plain data, so that it can travel."""

    inputs: Inputs
    texts: Texts

    def __call__(self, shard: Shard) -> Iterator[LatentItem]:
        return self.texts(self.inputs.of_shard(shard, lambda seen: None, lambda file, item: False))


class Parts:
    """The tables of all parts, as if they were one."""

    def __init__(
        self,
        folder: PartsFolder,
        question: Question,
        shards: Callable[[], Iterable[Shard]],
        changed: bool,
    ) -> None:
        self.folder, self.question, self.shards = folder, question, shards
        self.changed = changed
        """Whether there are tables of what is not among the parts any more, or was another file."""

    @property
    def tally(self) -> Tally:
        """Counts over all of them."""
        return self.folder.tally(self.shards())

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every row, in the order of the input."""
        columns = all_columns(self.question)
        for shard in self.shards():
            path = self.folder.folder / f"{table_name(shard, self.folder.where)}{SUFFIX}"
            with path.open(encoding="utf-8", newline="") as file:
                yield from parse_lines(file, columns, SUFFIX)


def ask_parts(
    crew: Crew,
    question: Question,
    inputs: Inputs,
    texts: Texts,
    folder: Path,
    settings: Mapping[str, Any],
    batch: int,
    overwrite: bool,
    progress: Callable[[int], None],
) -> Parts:
    """Ask of every part that has no table yet. texts: must travel, so no lambda.

    Raises ChildProcessError where a part fails twice; the others are kept.
    """
    tables = PartsFolder(folder, SUFFIX, settings, overwrite)
    before = len(tables.finished)
    undone = tables.plan(inputs.shards())
    changed = before > sum(1 for _ in inputs.shards()) - undone
    progress(tables.tally().items)
    target, reading = folder.absolute(), Reading(inputs, texts)
    work = Work(
        question,
        crew.source,
        target,
        SUFFIX,
        batch,
        Path(os.getcwd()),
        inputs.latent_key,
        tables.where,
        reading,
    )
    engine = choose_engine(crew.engine, crew.workers)
    failed = []
    for outcome in work_off(
        (shard for shard in inputs.shards() if not tables.is_done(shard)), work, crew.workers, engine
    ):
        if outcome.tally is None:
            failed.append(f"{outcome.shard.name}: {outcome.error}")
            continue
        tables.note(outcome.shard, outcome.tally)
        progress(outcome.tally.items)
    if failed:
        raise ChildProcessError(
            f"{len(failed)} parts of the input failed twice, the first: {failed[0]}. What is done is kept, "
            "and the same command goes on"
        )
    return Parts(tables, question, inputs.shards, changed)


def show_first(inputs: Inputs, gallery: Gallery) -> None:
    """Fill the gallery, which no worker sees."""
    items = iter(()) if gallery.count >= NUMBER else inputs.items(gallery, lambda file, item: False)
    for _ in items:
        if gallery.count >= NUMBER:
            return
