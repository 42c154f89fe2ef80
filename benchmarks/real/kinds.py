"""Test pictures of every kind in sizes from 256 to 2048 px: what checks of latents must not stumble over.

Each picture is asked once, whole but for what its middle square leaves out, in the size that its place in the
list gives it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path

from . import catalogue
from .catalogue import Picture, unit_hash
from .encoded import Encoded, encode_plan, load_encoded
from .plans import Item, item_of

PLAN = "kinds"
SPACE = "sdxl"
SIZES = {2048: 5, 1024: 25, 512: 100, 256: 880}
"""Pictures by size, the largest first."""
ENLARGED = 4  # times a picture's shorter side, at most


def load_kinds(cache: Path, share: float = 1.0, say: Callable[[str], None] = print) -> dict[int, Encoded]:
    """SDXL's latents of the pictures by size, encoded once and kept in the cache.

    share: of the pictures of each size, for a trial. Raises FileNotFoundError without pictures, TinyMissing
    without TAESD.
    """
    found = {}
    for size, items in sorted(of_all_kinds(catalogue.load(cache)).items()):
        most = max(1, round(share * len(items)))
        encode_plan(cache, PLAN, items, SPACE, size, shard=4, most=most, say=say)
        whole = load_encoded(cache, PLAN, SPACE, size)
        found[size] = Encoded(whole.latents[:most], whole.items[:most])
    return found


def of_all_kinds(pictures: Iterable[Picture]) -> dict[int, list[Item]]:
    """Test pictures by size, each in one. Kinds take turns, so that every size has all that are left."""
    rest = _in_turns([p for p in pictures if p.split == "test"])
    found: dict[int, list[Item]] = {}
    for size, number in SIZES.items():
        chosen = [p for p in rest if size <= ENLARGED * p.short][:number]
        taken = {p.id for p in chosen}
        rest = [p for p in rest if p.id not in taken]
        if chosen:
            found[size] = [_middle(p) for p in chosen]
    return found


def _in_turns(pictures: Iterable[Picture]) -> list[Picture]:
    kinds: dict[str, list[Picture]] = defaultdict(list)
    for picture in sorted(pictures, key=lambda p: unit_hash(f"kinds {p.id}")):
        kinds[picture.tone or picture.kind].append(picture)
    turns = zip_longest(*(kinds[kind] for kind in sorted(kinds)))
    return [picture for picture in chain.from_iterable(turns) if picture is not None]


def _middle(picture: Picture) -> Item:
    left, top = ((side - picture.short) // 2 for side in (picture.width, picture.height))
    kind = picture.tone or picture.kind
    return replace(item_of(picture, picture.id, box=(left, top, picture.short)), kind=kind)
