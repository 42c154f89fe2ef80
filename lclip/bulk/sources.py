"""What rows were made of: whether a file is still the one that was read, by its size and time."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

import numpy as np

from ..data.identity import Whereabouts
from ..data.samples import TEXT
from ..data.shards import Shard, is_shard
from .keys import key_of, place_of

State = list[list[int] | None]
"""Size and time in nanoseconds of some files; None for one that is not there."""


class Sources:
    """NAME.sources.jsonl beside a table: the state of every file when it was read, written before its rows.

    captions: the texts beside a file count too.
    """

    def __init__(self, path: Path, where: Whereabouts, captions: bool) -> None:
        self.path, self.where, self.captions = path, where, captions
        self._same = np.empty(0, np.uint64)
        self._seen: dict[str, State] = {}
        self._last = ""
        self._answered: tuple[str, bool] | None = None

    def read(self) -> None:
        """Read back which files are as they were; 8 bytes of each are kept. A damaged line says nothing."""
        keys, same = array("Q"), array("b")
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8", errors="replace") as log:
            for line in log:
                try:
                    entry = json.loads(line)
                    key, state = self._key(entry["file"]), entry["state"]
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue
                keys.append(key)
                same.append(state == self._state(entry["file"]))
        if keys:
            found = np.frombuffer(keys, np.uint64)
            order = np.argsort(found, kind="stable")
            ends = np.append(found[order][1:] != found[order][:-1], True)  # the last entry of each counts
            self._same = found[order][ends & np.frombuffer(same, np.int8)[order].astype(bool)]

    def changed(self, file: str) -> bool:
        """Whether a file of the table is there, and is not known to be the one that was read.

        Its rows come one after the other, and it is looked at once for all of them.
        """
        if self._answered is None or self._answered[0] != file:
            self._answered = file, not self._is_same(file) and self._state(file) is not None
        return self._answered[1]

    def see(self, file: str) -> None:
        """Keep the state of a file, by the table's name, that is being read; its items come in a row."""
        if file == self._last:
            return
        self._last = file
        if not self._is_same(file) and (state := self._state(file)) is not None:
            self._seen[file] = state

    def note(self, files: Iterable[str]) -> None:
        """Write down what was seen of files before their first rows are."""
        new = {file: self._seen.pop(file) for file in dict.fromkeys(files) if file in self._seen}
        if new:
            entries = (json.dumps({"file": file, "state": state}) for file, state in new.items())
            with self.path.open("a", encoding="utf-8") as log:
                log.write("".join(f"{entry}\n" for entry in entries))

    def _is_same(self, file: str) -> bool:
        return place_of(self._key(file), self._same) is not None

    def _state(self, file: str) -> State | None:
        path = Path(self.where.begun_in, file)
        found = _state_of([path, *(_texts(path) if self.captions else ())])
        return None if found[0] is None else found

    def _key(self, file: str) -> int:
        return key_of(self.where.identity(file))


def shard_state(shard: Shard) -> list[int]:
    """Whether a shard is still the one that was read: size and time of a tar, a digest of those of files."""
    if not shard.loose:
        stat = Path(shard.name).stat()
        return [stat.st_size, stat.st_mtime_ns]
    told = json.dumps(_state_of(shard.files)).encode()
    return [int.from_bytes(blake2b(told, digest_size=6).digest(), "little")]


def _state_of(paths: Iterable[Path]) -> State:
    found: State = []
    for path in paths:
        try:
            stat = os.stat(path)
        except (OSError, ValueError):
            found.append(None)
        else:
            found.append([stat.st_size, stat.st_mtime_ns])
    return found


def _texts(path: Path) -> list[Path]:
    """Where the caption of a loose file can be: under its own name, or under its key's."""
    if is_shard(path) or not path.name:
        return []
    names = {path.with_suffix(f".{TEXT}").name, f"{path.name.partition('.')[0]}.{TEXT}"}
    return [path.with_name(name) for name in sorted(names)]
