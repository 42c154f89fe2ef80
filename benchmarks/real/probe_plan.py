"""Which drawings the probe learns from, and which it is asked about.

Three questions of `WAYS` drawings each, so many times: another hand's drawings of names that were learnt
("style"), the same hands' drawings of names that were not ("names"), and another hand's of such names
("both"). "dev" is of names that neither learn nor test, for choosing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from .catalogue import Picture, unit_hash
from .plans import Item, drawing_variant, small_photographs

NATIVE = 128  # pixels; 16x16 cells
WAYS = 100
GROUPS = {"style": 3, "names": 3, "both": 3, "dev": 1}

_OF: dict[str, Callable[[Picture], bool]] = {
    "style": lambda p: p.held_out and p.split == "train",
    "names": lambda p: not p.held_out and p.split == "test",
    "both": lambda p: p.held_out and p.split == "test",
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
    whole = len(chosen) // WAYS * WAYS
    return [drawing_variant(p, 0, grounds[p.split]) for p in chosen[:whole]]


def learnt(pictures: Sequence[Picture], variants: int) -> list[Item]:
    """The drawings that are learnt from, each first once, then in another place, and so on.

    First those of names that several hands have drawn: what another hand's drawings are asked by.
    """
    grounds = small_photographs(pictures)
    drawings = [p for p in pictures if p.named and not p.held_out and p.split == "train"]
    hands = Counter(name for name, _ in {(p.name, p.source) for p in drawings})
    return [
        drawing_variant(p, variant, grounds["train"])
        for variant in range(variants)
        for p in sorted(drawings, key=lambda p: (hands[p.name] < 2, unit_hash(f"variant {variant} {p.id}")))
    ]
