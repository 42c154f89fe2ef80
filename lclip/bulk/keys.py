"""Names as 8 bytes each, so that millions of them fit into memory and are found again."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np


def key_of(name: str) -> int:
    """A hash of 64 bits."""
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def place_of(key: int, known: np.ndarray) -> int | None:
    """Where a key is among known ones, uint64 in rising order; None where it is not."""
    place = int(np.searchsorted(known, np.uint64(key)))
    return place if place < len(known) and int(known[place]) == key else None
