"""One table that grows while a run goes on, and from which an interrupted run goes on.

Rows are appended batch by batch. Beside the table lies NAME.settings.json, which says what was asked, so that
answers to different questions never share a table, and NAME.sources.jsonl, which says of which files: rows of
a file that has changed since are taken out when the table is opened, and made again.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ..checkpoints.atomic import atomic_file
from ..checkpoints.targets import check_writable
from ..data.identity import Whereabouts
from ..data.items import LatentItem
from ..data.tally import Tally
from .asking import Block
from .keys import key_of, place_of
from .questions import Question
from .sources import Sources
from .tables import LINES, all_columns, block_of, format_of, header, lines, parse_lines, write_table

ROWS_AT_ONCE = 1024  # read back together
BEGUN_IN = "begun_in"
"""In the settings: the folder that a first run's relative paths start from; no answer depends on it."""


class GrowingTable:
    """A table in a file: what is in it already, and more rows.

    path: .csv or .jsonl grow in place; .parquet grows as NAME.parquet.unfinished.jsonl and is made from that
    by `finish`. settings: what was asked; a table with other settings is refused with ValueError, and so is a
    .parquet that is finished, unless overwrite.
    """

    def __init__(self, path: Path, question: Question, settings: Mapping[str, Any], overwrite: bool = False):
        self.path, self.columns, self.tally = path, all_columns(question), Tally()
        self.parquet = format_of(path) not in LINES
        self.growing = path.with_name(f"{path.name}.unfinished.jsonl") if self.parquet else path
        self.suffix = self.growing.suffix.lower()
        self.about = path.with_name(f"{path.name}.settings.json")
        sources = path.with_name(f"{path.name}.sources.jsonl")
        for target in {self.path, self.growing, self.about, sources}:
            check_writable(target)
        if overwrite:
            for old in (self.path, self.growing, self.about, sources):
                old.unlink(missing_ok=True)
        elif self.parquet and path.exists():
            raise ValueError(f"{path} is finished already; give another name, or --overwrite to start anew")
        check_settings(self.about, settings, self.growing if self.growing.exists() else None)
        if not self.growing.exists():
            sources.unlink(missing_ok=True)
        self.where = Whereabouts(begun_in(self.about))
        self.sources = Sources(sources, self.where, question.wants_captions)
        self.changed = 0
        """Rows that were taken out, as their files have changed."""
        self._known = self._read_back()
        self._given = np.zeros(len(self._known), bool)
        self.old = self.tally.items
        self._file: TextIO | None = None

    def new(self, items: Iterable[LatentItem]) -> Iterator[LatentItem]:
        """The items that are not in the table yet."""
        return (item for item in items if not self.has(item.file, item.item))

    def has(self, file: str, item: str) -> bool:
        """Whether the table has had a row for this item when it was opened. Asked once for each item: where a
        tar holds a key twice, the second is known only by a second row."""
        shown = self.where.shown(file)
        place = self._place(shown, item)
        while place is not None and self._given[place]:
            more = place + 1 < len(self._known) and self._known[place + 1] == self._known[place]
            place = place + 1 if more else None
        if place is None:
            self.sources.see(shown)
            return False
        self._given[place] = True
        return True

    def write(self, block: Block) -> None:
        """Append rows. Where the process ends within, the next run cuts off the half line and goes on."""
        if self._file is None:
            self._file = self.growing.open("a", encoding="utf-8", newline="")
            if self._file.tell() == 0:
                self._file.write(header(self.columns, self.suffix))
        block.values["file"] = [self.where.shown(file) for file in block.values["file"]]
        self.sources.note(block.values["file"])
        self._file.write(lines(block, self.columns, self.suffix))
        self._file.flush()
        self.tally.add(block.tally())

    def close(self) -> None:
        """Close the file; the table may grow on later."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def finish(self) -> Path:
        """Close a table that has all its rows. Returns where it is."""
        self.close()
        if self.parquet:
            write_table(self.path, self._blocks(), self.columns, ".parquet")
            self.growing.unlink()
            self.sources.path.unlink(missing_ok=True)
        return self.path

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows so far, in their order."""
        if not self.growing.exists() or self.growing.stat().st_size == 0:
            return
        with self.growing.open(encoding="utf-8", newline="") as file:
            yield from parse_lines(file, self.columns, self.suffix)

    def rows_given(self) -> Iterator[dict[str, Any]]:
        """The rows of the items that this run has come by, without those of other runs' inputs."""
        for number, row in enumerate(self.rows()):
            place = None if number >= self.old else self._place(row["file"], row["item"] or "")
            if number >= self.old or (place is not None and self._given[place]):
                yield row

    def tally_given(self) -> tuple[Tally, int]:
        """Counts over those rows, and how many of them are of earlier runs."""
        tally = Tally()
        for block in self._blocks(self.rows_given()):
            tally.add(block.tally())
        return tally, int(self._given.sum())

    def _blocks(self, rows: Iterable[dict[str, Any]] | None = None) -> Iterator[Block]:
        waiting = iter(self.rows() if rows is None else rows)
        while some := list(islice(waiting, ROWS_AT_ONCE)):
            yield block_of(some, self.columns)

    def _place(self, file: str, item: str) -> int | None:
        """Where the key of a row is among those of the table as it was opened."""
        return place_of(self._key(file, item), self._known)

    def _key(self, file: str, item: str) -> int:
        return key_of(f"{self.where.identity(file)}\0{item}")

    def _read_back(self) -> np.ndarray:
        """Cut off a half line, take out what has changed, count the rest, and keep 8 bytes of each item."""
        keys = array("Q")
        _cut_half_line(self.growing)
        _cut_half_line(self.sources.path)
        try:
            self._take_out_changed()
            for block in self._blocks():
                self.tally.add(block.tally())
                items = (item or "" for item in block.values["item"])
                keys.extend(map(self._key, block.values["file"], items))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{self.growing} is damaged, or was changed: {error}. Give another name, or --overwrite to "
                "start anew"
            ) from error
        return np.sort(np.frombuffer(keys, np.uint64)) if keys else np.empty(0, np.uint64)

    def _take_out_changed(self) -> None:
        if (first := next(self.rows(), None)) is None:
            return
        self.where.check(first["file"])
        self.sources.read()
        self.changed = sum(self._is_changed(row) for row in self.rows())
        if self.changed:
            kept = self._blocks(row for row in self.rows() if not self._is_changed(row))
            write_table(self.growing, kept, self.columns, self.suffix)

    def _is_changed(self, row: Mapping[str, Any]) -> bool:
        return self.sources.changed(row["file"])


def check_settings(path: Path, settings: Mapping[str, Any], results: Path | None) -> None:
    """Keep settings in a file beside results; where there are results, ValueError unless they fit."""
    if results is None:
        about = {**settings, BEGUN_IN: os.getcwd()}
        with atomic_file(path) as temporary:
            text = json.dumps(about, indent=2, ensure_ascii=False, sort_keys=True)
            temporary.write_text(text + "\n", encoding="utf-8")
        return
    again = "Give another name, or --overwrite to start anew"
    if not path.exists():
        raise ValueError(f"{results} exists, but not {path.name}, which says how it was made. {again}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        names = sorted({**settings, **found}.keys() - {BEGUN_IN})
        different = [name for name in names if found.get(name) != settings.get(name)]
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error}. {again}") from error
    if different:
        was, now = found.get(different[0]), settings.get(different[0])
        raise ValueError(f"{results} is of another run: {different[0]} was {was!r}, now {now!r}. {again}")


def begun_in(path: Path) -> Path:
    """The folder that relative names in results start from, by their settings; else this one."""
    found = json.loads(path.read_text(encoding="utf-8")).get(BEGUN_IN)
    return Path(found if isinstance(found, str) else os.getcwd())


def _cut_half_line(path: Path) -> None:
    """Take off what follows the last line break: an interrupted run's last write."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - (1 << 16))
            file.seek(start)
            place = file.read(end - start).rfind(b"\n")
            if place >= 0:
                end = start + place + 1
                break
            end = start
        file.truncate(end)
