"""A folder of results: one table for each shard of the input, written by one worker or many.

A shard is a tar file, or a number of loose files. A table appears only when it is whole; `finished.jsonl`
lists what is done, so that an interrupted run goes on with the shards that are not.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..checkpoints.targets import check_folder, plain_name
from ..data.identity import Whereabouts
from ..data.items import LatentItem, readable
from ..data.reader import read_all, read_shard
from ..data.shards import Shard
from ..data.tally import Tally
from .asking import BLOCKED, FAILED, NOTED, Asker
from .questions import ModelSource, Question
from .results import begun_in, check_settings
from .sources import shard_state
from .tables import LINES, all_columns, require_pyarrow, write_table

TABLE = re.compile(r".+-[0-9a-f]{8}\.(csv|jsonl|parquet)")
UNFINISHED = re.compile(r"\..+-[0-9a-f]{8}\.(csv|jsonl|parquet)\.\d+\.tmp")  # of a run that was killed


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
    latent_key: str | None = None
    """Which member of a sample is its latents, where it holds several."""
    where: Whereabouts | None = None
    """What names mean in this folder of results; None: what they say."""
    read: Callable[[Shard], Iterable[LatentItem]] | None = None
    """Gives a shard's latents in the library's place; it must travel too."""

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
        path = self.work.folder / f"{table_name(shard, self.work.where)}{self.work.suffix}"
        columns = all_columns(self.work.question)
        return write_table(path, self.asker.blocks(self._items(shard)), columns, self.work.suffix)

    def _items(self, shard: Shard) -> Iterable[LatentItem]:
        if self.work.read is not None:
            return self.work.read(shard)
        captions, latent_key = self.work.question.wants_captions, self.work.latent_key
        if shard.loose:
            return read_all([shard], captions, latent_key)
        return read_shard(shard, True, latent_key)


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
        check_folder(folder, (f"{'x' * 60}{suffix}",))
        self.folder, self.suffix, self.log = folder, suffix, folder / "finished.jsonl"
        about = folder / "settings.json"
        if about.exists():
            self._clear(UNFINISHED)
            if overwrite:
                self._clear(TABLE)
                self.log.unlink(missing_ok=True)
                about.unlink()
        elif any(not path.name.startswith(".") for path in folder.iterdir()):
            raise ValueError(f"{folder} holds something else; expected a new or empty folder")
        check_settings(about, {**settings, "tables": suffix}, folder if about.exists() else None)
        self.where = Whereabouts(begun_in(about))
        self.finished = {entry["shard"]: entry for entry in self._read_log()}
        self._seen: dict[str, list[int]] = {}

    def _clear(self, names: re.Pattern[str]) -> None:
        for path in list(self.folder.iterdir()):
            if names.fullmatch(path.name):
                path.unlink()

    def plan(self, shards: Iterable[Shard]) -> int:
        """How many shards there are to do. ValueError where loose files came or went since a run before.

        They are then divided in another way, and some would be in two tables.
        """
        number, loose, stale = 0, set(), set()
        for shard in shards:
            if not self.is_done(shard):
                number += 1
                stale.add(table_name(shard, self.where))
            if shard.loose:
                loose.add(table_name(shard, self.where))
        # Loose files had no state in the first results.
        if {name for name, entry in self.finished.items() if entry.get("loose", not entry["state"])} - loose:
            raise ValueError(
                f"{self.folder} holds tables of loose files, and files have come or gone since; give another "
                "name, or --overwrite to start anew"
            )
        self.finished = {name: entry for name, entry in self.finished.items() if name not in stale}
        return number

    def is_done(self, shard: Shard) -> bool:
        """Whether the shard's table is there, and the shard is still the one that was read."""
        name = table_name(shard, self.where)
        entry, there = self.finished.get(name), (self.folder / f"{name}{self.suffix}").exists()
        state = shard_state(shard)
        done = entry is not None and there and entry["state"] == state
        if not done:
            self._seen[name] = state
        return done

    def tally(self, shards: Iterable[Shard] | None = None) -> Tally:
        """Counts over all finished tables, or over those of some shards."""
        total = Tally()
        names = self.finished if shards is None else [table_name(shard, self.where) for shard in shards]
        for name in names:
            if (entry := self.finished.get(name)) is not None:
                total.add(tally_of(entry["tally"]))
        return total

    def note(self, shard: Shard, tally: Tally) -> None:
        """Remember a shard as done."""
        name = table_name(shard, self.where)
        state = self._seen.pop(name, None) or shard_state(shard)  # as it was before it was read
        entry = {"shard": name, "loose": shard.loose, "state": state, "tally": tally.plain()}
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        self.finished[entry["shard"]] = entry

    def _read_log(self) -> list[dict[str, Any]]:
        entries = []
        for line in self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # a half line of an interrupted run: that shard is done again
            if isinstance(entry, dict) and {"shard", "state"} <= entry.keys():
                entries.append(entry)
        return entries


def table_name(shard: Shard, where: Whereabouts | None = None) -> str:
    """What a shard's table is called, without its ending: the same for the same files in every run.

    where: knows them from another folder, by an absolute path, and through a link too.
    """
    stem = shard.name if shard.loose else Path(shard.name).name.partition(".")[0]
    digest = shard.digest() if where is None else shard.digest(where.beside)
    return f"{plain_name(readable(stem), '')}-{digest}"


def tally_of(entry: Mapping[str, Any]) -> Tally:
    """What `PartsFolder.note` wrote, in the first results too, which had a field for each reason."""
    if "counts" in entry:
        return Tally.of(entry)
    old = {FAILED: "first_error", NOTED: "first_note", BLOCKED: ""}
    tally = Tally(entry["items"])
    for reason, first in old.items():
        tally.count(reason, entry[reason], entry.get(first, ""))
    return tally
