"""Policies that come with the library, and concepts as people type them."""

from __future__ import annotations

from pathlib import Path

from ..wording import typed_lines
from .concept import Concept

FOLDER = Path(__file__).parent / "policies"
PRESETS = ("i2p", "mini")
"""Names of the shipped policies. I2P's thresholds are not calibrated for any released model."""


def preset_json(name: str) -> str:
    """The shipped policy of that name, as JSON. ValueError for another name."""
    if name not in PRESETS:
        raise ValueError(f"there is no safety preset {name!r}; there are: {', '.join(PRESETS)}")
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"the safety preset {path} is missing; install the pack again")
    return path.read_text(encoding="utf-8")


def parse_concepts(text: str, threshold: float = 0.5) -> tuple[Concept, ...]:
    """Concepts as typed, one per line: "name: unsafe text | unsafe text // safe text | safe text".

    Empty lines, and lines that begin with #, say nothing. ValueError names the line that cannot be read.
    """
    concepts = []
    for number, line in typed_lines(text):
        if line.startswith("#"):
            continue
        name, colon, anchors = line.partition(":")
        unsafe, slashes, safe = anchors.partition("//")
        if not colon or not slashes or "//" in safe:
            raise ValueError(
                f"line {number} of the concepts is {line!r}; expected one line of the form "
                "name: unsafe text | unsafe text // safe text | safe text"
            )
        try:
            concepts.append(Concept(name.strip(), _split(unsafe), _split(safe), threshold))
        except ValueError as error:
            raise ValueError(f"line {number} of the concepts: {error}") from error
        if not concepts[-1].safe:
            raise ValueError(f"line {number} of the concepts has no safe text after //; add a harmless one")
    return tuple(concepts)


def _split(texts: str) -> tuple[str, ...]:
    return tuple(text.strip() for text in texts.split("|")) if texts.strip() else ()
