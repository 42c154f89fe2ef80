"""Which drawings the probe learns from, and which it is asked about.

Questions of `WAYS` drawings each, so many times: another hand's drawings of names that were learnt, on white
("style") and on other grounds ("grounds"), and the same hands' drawings of names that were not ("names").
"dev" is of names that neither learn nor test, for choosing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from .catalogue import Picture, unit_hash
from .plans import Item, drawing_variant, on_white, small_photographs

NATIVE = 128  # pixels; 16x16 cells
WAYS = 100
GROUPS = {"style": 3, "grounds": 3, "names": 2, "dev": 1}

_OF: dict[str, Callable[[Picture], bool]] = {
    "style": lambda p: p.held_out and p.split == "train",
    "grounds": lambda p: p.held_out and p.split == "train",
    "names": lambda p: not p.held_out and p.split == "test",
    "dev": lambda p: not p.held_out and p.split == "dev",
}


def asked(pictures: Sequence[Picture], question: str) -> list[Item]:
    """The drawings of a question, each group of `WAYS` with names that all differ."""
    grounds = small_photographs(pictures)
    drawings = sorted(
        (p for p in pictures if p.named and _OF[question](p)), key=lambda p: unit_hash(f"ask {p.id}")
    )
    by_name = {p.name: p for p in reversed(drawings)}  # the first of each name
    chosen = [p for p in drawings if by_name[p.name] is p][: WAYS * GROUPS[question]]
    whole = chosen[: len(chosen) // WAYS * WAYS]
    if question == "grounds":
        return [drawing_variant(p, 0, grounds[p.split]) for p in whole]
    return [on_white(p, 1) for p in whole]


def learnt(pictures: Sequence[Picture], most: int) -> list[Item]:
    """So many drawings to learn from: each on one ground or another, then each on white.

    First come those of names that several hands have drawn: what another hand's drawings are asked by.
    """
    grounds = small_photographs(pictures)["train"]
    drawings = [p for p in pictures if p.named and not p.held_out and p.split == "train"]
    hands = Counter(name for name, _ in {(p.name, p.source) for p in drawings})
    order = sorted(drawings, key=lambda p: (hands[p.name] < 2, unit_hash(f"variant 0 {p.id}")))[:most]
    return [*(drawing_variant(p, 0, grounds) for p in order), *(on_white(p, 1) for p in order)]
