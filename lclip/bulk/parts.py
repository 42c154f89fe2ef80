"""A folder of results: one table for each shard of the input, written by one worker or many.

A shard is a tar file, or a number of loose files. A table appears only when it is whole; `finished.jsonl`
lists what is done, so that an interrupted run goes on with the shards that are not.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from ..data.items import LatentItem, readable
from ..data.reader import is_shard, read_all, read_items
from .asking import Asker, Tally
from .questions import ModelSource, Question
from .results import check_settings
from .tables import LINES, all_columns, require_pyarrow, write_table

FILES_PER_SHARD = 1000  # loose files that are written into one table
TABLE = re.compile(r".+-[0-9a-f]{8}\.(csv|jsonl|parquet)")
UNFINISHED = re.compile(r"\..+-[0-9a-f]{8}\.(csv|jsonl|parquet)\.\d+\.tmp")  # of a run that was killed


@dataclass(frozen=True)
class Shard:
    """Input that becomes one table."""

    name: str
    """Of the table, without its ending."""
    files: tuple[Path, ...]
    """One tar file, or loose files."""

    @property
    def loose(self) -> bool:
        """Whether it is a number of loose files."""
        return not is_shard(self.files[0])

    def state(self) -> list[int]:
        """Size and time of a tar file: whether it is still the one that was read."""
        if self.loose:
            return []
        stat = self.files[0].stat()
        return [stat.st_size, stat.st_mtime_ns]

    def items(self, captions: bool) -> Iterator[LatentItem]:
        """Its latents. ValueError or OSError where a tar file cannot be read at all."""
        return read_all(self.files, captions) if self.loose else read_items(self.files[0])


@dataclass(frozen=True)
class Work:
    """What a worker does with each shard; plain data, so that it can travel to other processes."""

    question: Question
    source: ModelSource
    folder: Path
    suffix: str
    batch: int
    here: Path
    """The folder that relative paths start from."""

    def start(self, threads: int) -> Worker:
        """Make this process a worker: load the model, and give torch that many threads."""
        os.chdir(self.here)
        torch.set_num_threads(threads)
        return Worker(self, Asker(self.question, self.source.load(), self.batch))


class Worker:
    """Makes tables of shards."""

    def __init__(self, work: Work, asker: Asker):
        self.work, self.asker = work, asker

    def __call__(self, shard: Shard) -> Tally:
        """Write the shard's table. Raises whatever went wrong; then there is no table."""
        items = shard.items(self.work.question.wants_captions)
        path = self.work.folder / f"{shard.name}{self.work.suffix}"
        columns = all_columns(self.work.question)
        return write_table(path, self.asker.blocks(items), columns, self.work.suffix)


class PartsFolder:
    """The folder, and what is finished in it.

    settings: what was asked; a folder with other settings is refused with ValueError, unless overwrite, which
    removes its tables.
    """

    def __init__(self, folder: Path, suffix: str, settings: Mapping[str, Any], overwrite: bool = False):
        if suffix not in LINES:
            require_pyarrow()
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file; expected a folder for the tables")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.suffix, self.log = folder, suffix, folder / "finished.jsonl"
        about = folder / "settings.json"
        if about.exists():
            self._clear(UNFINISHED)
            if overwrite:
                self._clear(TABLE)
                self.log.unlink(missing_ok=True)
                about.unlink()
        elif any(folder.iterdir()):
            raise ValueError(f"{folder} holds something else; expected a new or empty folder")
        check_settings(about, {**settings, "tables": suffix}, folder if about.exists() else None)
        self.finished = {entry["shard"]: entry for entry in self._read_log()}

    def _clear(self, names: re.Pattern[str]) -> None:
        for path in list(self.folder.iterdir()):
            if names.fullmatch(path.name):
                path.unlink()

    def plan(self, shards: Iterable[Shard]) -> int:
        """How many shards there are to do. ValueError where loose files came or went since a run before.

        They are then divided in another way, and some would be in two tables.
        """
        number, loose = 0, set()
        for shard in shards:
            number += not self.is_done(shard)
            if shard.loose:
                loose.add(shard.name)
        if {name for name, entry in self.finished.items() if not entry["state"]} - loose:
            raise ValueError(
                f"{self.folder} holds tables of loose files, and files have come or gone since; give another "
                "name, or --overwrite to start anew"
            )
        return number

    def is_done(self, shard: Shard) -> bool:
        """Whether the shard's table is there, and the shard is still the one that was read."""
        entry = self.finished.get(shard.name)
        there = (self.folder / f"{shard.name}{self.suffix}").exists()
        return entry is not None and there and entry["state"] == shard.state()

    def tally(self) -> Tally:
        """Counts over all finished tables."""
        total = Tally()
        for entry in self.finished.values():
            total.add(Tally(**entry["tally"]))
        return total

    def note(self, shard: Shard, tally: Tally) -> None:
        """Remember a shard as done."""
        entry = {"shard": shard.name, "state": shard.state(), "tally": asdict(tally)}
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        self.finished[shard.name] = entry

    def _read_log(self) -> list[dict[str, Any]]:
        entries = []
        for line in self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else ():
            try:
                entries.append(json.loads(line))
            except ValueError:
                continue  # a half line of an interrupted run: that shard is done again
        return entries


def shards_of(files: Iterable[Path], size: int = FILES_PER_SHARD) -> Iterator[Shard]:
    """Files as shards: every tar file by itself, loose files by the given number.

    A name holds a hash of all paths in it, so that it stands for the same files in every run.
    """
    loose: list[Path] = []
    number = 0
    for path in files:
        if is_shard(path):
            yield _shard(path.name.partition(".")[0], [path])
            continue
        loose.append(path)
        if len(loose) == size:
            yield _shard(f"files-{number:06}", loose)
            loose, number = [], number + 1
    if loose:
        yield _shard(f"files-{number:06}", loose)


def _shard(stem: str, files: list[Path]) -> Shard:
    digest = blake2b(digest_size=4)
    for path in files:
        digest.update(path.as_posix().encode("utf-8", "surrogateescape") + b"\0")
    return Shard(f"{readable(stem)}-{digest.hexdigest()}", tuple(files))
