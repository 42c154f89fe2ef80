"""What was made so far, a line of JSON each, so that a killed evaluation goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..bulk.results import check_settings

KEY = ("variant", "prompt", "sample")


class Journal:
    """Rows in a file, one for each picture, by variant, place of the prompt, and number of the sample.

    settings: what all rows hang on; a file of other settings is refused with ValueError, unless overwrite.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], overwrite: bool = False) -> None:
        self.path = path
        about = path.with_name(f"{path.name}.settings.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        if overwrite:
            path.unlink(missing_ok=True)
            about.unlink(missing_ok=True)
        check_settings(about, settings, path if path.exists() else None)
        self._rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        if path.exists():
            self._read()

    def done(self, variant: str, prompt: int, sample: int) -> bool:
        """Whether that picture was made; one that failed was not."""
        row = self._rows.get((variant, prompt, sample))
        return row is not None and not row.get("error")

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a row, whatever happens next. A later one of the same picture takes its place."""
        self._rows[_key(row)] = dict(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def rows(self, variant: str) -> list[dict[str, Any]]:
        """What was made of a variant, by prompt and sample."""
        return [
            row for key, row in sorted(self._rows.items(), key=lambda item: item[0][1:]) if key[0] == variant
        ]

    def _read(self) -> None:
        """Every whole line; a half one is of an interrupted write, and is cut off."""
        raw = self.path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if whole != raw:
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                row = json.loads(line)
                self._rows[_key(row)] = row
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{self.path}, line {number} is damaged, or was changed: {error}. Give another folder, "
                    "or --overwrite to start anew"
                ) from error


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)
