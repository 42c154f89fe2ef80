"""Batches of latents, one item at a time: norms, shapes, checks and seeds that never mix two items."""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import blake2b
from numbers import Integral

import torch
from torch import Tensor


def repeated(batch: Tensor, times: int) -> Tensor:
    """The whole batch [B, ...] so many times in a row: [times x B, ...]."""
    return batch.repeat(times, *[1] * (batch.ndim - 1))


def per_item(values: Tensor, like: Tensor) -> Tensor:
    """Reshape one number per item [B] so that it broadcasts over `like` [B, ...]."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def item_norm(x: Tensor) -> Tensor:
    """L2 norm of every item, in at least fp32: [B, ...] -> [B]."""
    x = x.flatten(1)
    return torch.linalg.vector_norm(x, dim=1, dtype=torch.promote_types(x.dtype, torch.float32))


def finite_items(x: Tensor) -> Tensor:
    """Which items hold only finite numbers: [B, ...] -> bool [B]."""
    return torch.isfinite(x).flatten(1).all(dim=1)


def is_whole(value: object) -> bool:
    """Whether a value counts items: an integer of Python or NumPy, and no True."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_count(
    name: str, value: object, expected: str = "1 or more", least: int = 1, most: float = math.inf
) -> int:
    """How many of something are asked for. ValueError for no whole number, and for one out of its range."""
    if not is_whole(value):
        raise ValueError(f"{name} is {value!r}; expected a whole number, {expected}")
    count = int(value)  # type: ignore[call-overload]
    if not least <= count <= most:
        raise ValueError(f"{name} is {count}; expected {expected}")
    return count


def check_k(k: object, count: int) -> int:
    """How many of so many items are to be chosen. More than there are is no error: all of them are."""
    return check_count("k", k, f"1 to {count}, the number of items")


def item_seed(seed: int, item: int, stream: int = 0) -> int:
    """The seed of what is drawn for the item at that place, from 0 to 2^63 - 1.

    A hash: with a plain seed + item, item 1 of one seed is item 0 of the next, and the first candidate is the
    very noise that a host draws from the same seed. stream: which of the seed's independent draws.
    """
    text = f"{int(seed)} {int(stream)} {int(item)}".encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 1


def sample_seed(seed: int, number: int) -> int:
    """The seed of one of several samples: the first has the seed itself, the others hashes of it, so that
    neighbouring seeds share nothing."""
    return item_seed(seed, number) if number else seed


def item_by_item(answer: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """A function of a batch, [B, ...] -> [B, ...], that one broken item does not spoil: NaN for that item.

    The function sees zeros in its place, so that the other items' answers and gradients stay as they are.
    """
    finite = finite_items(z)
    if bool(finite.all()):
        return answer(z)
    found = answer(torch.where(per_item(finite, z), z, torch.zeros_like(z)))
    return torch.where(per_item(finite.to(found.device), found), found, torch.full_like(found, torch.nan))
