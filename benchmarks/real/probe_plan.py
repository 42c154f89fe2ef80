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

NATIVE = 512  # pixels; 64x64 cells, as the released models read
WAYS = 100
GROUPS = {"style": 2, "grounds": 2, "names": 2, "dev": 1}

_OF: dict[str, Callable[[Picture], bool]] = {
    "style": lambda p: p.held_out and p.split == "train",
    "grounds": lambda p: p.held_out and p.split == "train",
    "names": lambda p: not p.held_out and p.split == "test",
    "dev": lambda p: not p.held_out and p.split == "dev",
}


def asked(pictures: Sequence[Picture], question: str) -> list[Item]:
    """The drawings of a question, each group of `WAYS` with names that all differ.

    First come names that most hands have drawn, which are those that are learnt.
    """
    grounds, hands = small_photographs(pictures), hands_of(pictures)
    drawings = sorted((p for p in pictures if p.named and _OF[question](p)), key=lambda p: _mixed("ask", p))
    by_name = {p.name: p for p in reversed(drawings)}  # the first of each name
    distinct = [p for p in drawings if by_name[p.name] is p]
    chosen = sorted(distinct, key=lambda p: -hands[p.name])[: WAYS * GROUPS[question]]
    whole = sorted(chosen[: len(chosen) // WAYS * WAYS], key=lambda p: _mixed("ask", p))
    if question == "grounds":
        return [drawing_variant(p, 0, grounds[p.split]) for p in whole]
    return [on_white(p, 1) for p in whole]


def learnt(pictures: Sequence[Picture], most: int) -> list[Item]:
    """So many drawings to learn from, each once, every second one on white.

    First come those of names that most hands have drawn.
    """
    grounds, hands = small_photographs(pictures)["train"], hands_of(pictures)
    drawings = [p for p in pictures if p.named and not p.held_out and p.split == "train"]
    chosen = sorted(drawings, key=lambda p: (-hands[p.name], unit_hash(f"name {p.name}"), p.id))[:most]
    mixed = sorted(chosen, key=lambda p: _mixed("learn", p))
    return [on_white(p, 1) if n % 2 else drawing_variant(p, 0, grounds) for n, p in enumerate(mixed)]


def hands_of(pictures: Sequence[Picture]) -> Counter[str]:
    """How many sets have drawn each name, without the one that is held out."""
    return Counter(name for name, _ in {(p.name, p.source) for p in pictures if p.named and not p.held_out})


def _mixed(what: str, picture: Picture) -> float:
    return unit_hash(f"{what} {picture.id}")
