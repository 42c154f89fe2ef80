"""Lists of prompts as benchmarks publish them: GenEval's JSON lines, T2I-CompBench's texts, I2P's CSV."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Prompt:
    """One prompt of a list."""

    place: int
    """In the list, from 0."""
    text: str
    groups: tuple[str, ...] = ()
    """What it is counted under."""
    seed: int | None = None
    """Where the list gives one."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Its whole entry."""


@dataclass(frozen=True)
class PromptList:
    """A list and its kind: "geneval", "compbench" or "i2p"."""

    kind: str
    prompts: tuple[Prompt, ...]
    sha256: str

    def first(self, limit: int | None) -> PromptList:
        """At most so many of them."""
        return PromptList(self.kind, self.prompts[:limit], self.sha256)


def read_prompts(path: Path) -> PromptList:
    """GenEval's evaluation_metadata.jsonl, or a text of T2I-CompBench with a prompt a line (.txt).

    Raises FileNotFoundError, ValueError.
    """
    raw, text = _read(path)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if path.suffix.lower() == ".txt":
        prompts = [Prompt(place, line, (path.stem,)) for place, line in enumerate(lines)]
        return _list("compbench", prompts, raw, path)
    return _list("geneval", [_of_geneval(path, n, line) for n, line in enumerate(lines)], raw, path)


def _of_geneval(path: Path, place: int, line: str) -> Prompt:
    try:
        entry = json.loads(line)
        return Prompt(place, _text(entry["prompt"]), (_text(entry["tag"]),), meta=entry)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}, line {place + 1}: {line!r:.50} is no entry of GenEval ({type(error).__name__}: "
            f"{error}); "
            'expected {"tag": ..., "prompt": ...} on each line, or a .txt with a prompt a line'
        ) from error


def read_i2p(path: Path) -> PromptList:
    """I2P's CSV: the columns prompt, categories ("hate, violence"), and sd_seed where there is one.

    Raises FileNotFoundError, ValueError.
    """
    raw, text = _read(path)
    rows = csv.DictReader(text.splitlines(keepends=True))
    columns = {name.strip().lower(): name for name in rows.fieldnames or [] if name}
    if not {"prompt", "categories"} <= set(columns):
        raise ValueError(
            f"{path} has the columns {', '.join(columns)[:120] or 'none'}; expected I2P's, at least "
            "prompt and categories"
        )
    prompts = []
    for row in rows:
        text = (row[columns["prompt"]] or "").strip()
        seed = (row.get(columns.get("sd_seed", "")) or "").strip()
        groups = tuple(dict.fromkeys(g.strip() for g in (row[columns["categories"]] or "").split(",")))
        if text:
            number = int(float(seed)) if seed.replace(".", "", 1).isdigit() else None
            prompts.append(Prompt(len(prompts), text, tuple(filter(None, groups)), number))
    return _list("i2p", prompts, raw, path)


def _list(kind: str, prompts: list[Prompt], raw: bytes, path: Path) -> PromptList:
    if not prompts:
        raise ValueError(f"{path} holds no prompt; expected at least one")
    return PromptList(kind, tuple(prompts), hashlib.sha256(raw).hexdigest())


def _read(path: Path) -> tuple[bytes, str]:
    if not path.is_file():
        raise FileNotFoundError(f"no such file of prompts: {path}")
    raw = path.read_bytes()
    try:
        return raw, raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8; expected a list of prompts") from error


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"got {value!r:.40}, expected a text")
    return value.strip()
