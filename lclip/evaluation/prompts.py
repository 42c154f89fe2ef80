"""Lists of prompts as benchmarks publish them: GenEval's JSON lines, T2I-CompBench's texts, I2P's CSV."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checkpoints.convert import file_sha256
from ..data.texts import read_table, read_text

LARGEST_SEED = 2**64 - 1


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
    _check_there(path)
    numbered = [(number, line.strip()) for number, line in enumerate(read_text(path).split("\n"), 1)]
    lines = [(number, line) for number, line in numbered if line]
    if path.suffix.lower() == ".txt":
        prompts = [Prompt(place, line, (path.stem,)) for place, (_, line) in enumerate(lines)]
        return _list("compbench", prompts, path)
    return _list("geneval", [_of_geneval(path, n, *line) for n, line in enumerate(lines)], path)


def _of_geneval(path: Path, place: int, number: int, line: str) -> Prompt:
    try:
        entry = json.loads(line)
        return Prompt(place, _text(entry["prompt"]), (_text(entry["tag"]),), meta=entry)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}, line {number}: {line!r:.50} is no entry of GenEval ({type(error).__name__}: "
            f"{error}); "
            'expected {"tag": ..., "prompt": ...} on each line, or a .txt with a prompt a line'
        ) from error


def read_i2p(path: Path) -> PromptList:
    """I2P's CSV: the columns prompt, categories ("hate, violence"), and sd_seed where there is one.

    Raises FileNotFoundError, ValueError.
    """
    _check_there(path)
    columns, rows = read_table(path, "at least prompt and categories")
    if not {"prompt", "categories"} <= set(columns):
        raise ValueError(
            f"{path} has the columns {', '.join(columns)[:120] or 'none'}; expected I2P's, at least "
            "prompt and categories"
        )
    prompts = []
    for row in rows:
        groups = tuple(dict.fromkeys(group.strip() for group in row["categories"].split(",")))
        if text := row["prompt"]:
            seed = _seed(row.get("sd_seed", ""))
            prompts.append(Prompt(len(prompts), text, tuple(filter(None, groups)), seed))
    return _list("i2p", prompts, path)


def _seed(text: str) -> int | None:
    """A whole number that a generator takes, also as spreadsheets write it (7.0); None for anything else."""
    found = re.fullmatch(r"([0-9]{1,20})(\.0*)?", text)
    return int(found[1]) if found and int(found[1]) <= LARGEST_SEED else None


def _list(kind: str, prompts: list[Prompt], path: Path) -> PromptList:
    if not prompts:
        raise ValueError(f"{path} holds no prompt; expected at least one")
    return PromptList(kind, tuple(prompts), file_sha256(path))


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"no such file of prompts: {path}")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"got {value!r:.40}, expected a text")
    return value.strip()
