"""What lies between two to four corners: spherical where it is noise, linear where it is not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..latents.items import finite_items

MOST = 4
NEARLY = 1e-4  # radians: of directions this close the chord is as good as the arc


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Spherical interpolation (Shoemake 1985), each tensor read as one vector; t from 0, a, to 1, b.

    sin((1 - t) w) / sin(w) a + sin(t w) / sin(w) b for directions with the angle w between them; the length
    goes evenly from one to the other. So what lies between N(0, I) noises is as long as noise is, which a
    mean is not. ValueError for tensors of other shapes, for zeros, and for opposite directions.
    """
    if a.shape != b.shape:
        raise ValueError(f"slerp got shapes {tuple(a.shape)} and {tuple(b.shape)}; expected the same")
    if t in (0.0, 1.0):
        return (b if t else a).clone()
    lengths = torch.linalg.vector_norm(a), torch.linalg.vector_norm(b)
    if not all(bool(length > 0) for length in lengths):
        raise ValueError("slerp got zeros, which have no direction; expected noise")
    u, v = a / lengths[0], b / lengths[1]
    angle = 2 * math.atan2(float(torch.linalg.vector_norm(u - v)), float(torch.linalg.vector_norm(u + v)))
    if math.pi - angle < NEARLY:
        raise ValueError(
            "slerp got opposite directions: no way between them is the shortest. Take another seed"
        )
    if angle < NEARLY:
        way = torch.lerp(u, v, t)
    else:
        way = (math.sin((1 - t) * angle) * u + math.sin(t * angle) * v) / math.sin(angle)
    return way * torch.lerp(*lengths, t)


def linear_weights(corners: int, u: float, v: float) -> list[float]:
    """How much each of one to four corners counts at (u, v), each from 0 to 1. They sum to one.

    Corners 1 and 2 span u, 1 and 3 span v, and 4 lies opposite of 1. Of three the plane through them is
    taken, so that opposite of 1 is 2 + 3 - 1.
    """
    if corners == 1:
        return [1.0]
    if corners == 2:
        return [1 - u, u]
    if corners == 3:
        return [1 - u - v, u, v]
    return [(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v]


def weighted(items: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted sum; of a single corner, that very corner."""
    for item, weight in zip(items, weights, strict=True):
        if weight == 1.0 and sum(map(bool, weights)) == 1:
            return item.clone()
    return torch.stack([item * weight for item, weight in zip(items, weights, strict=True)]).sum(0)


class Corners:
    """One kind of thing at one to four corners, such as the noise, and what lies between.

    kind: its name, a word. items: tensors [...] of one shape. numbers: what the corners are called, 1 to n by
    default. ValueError for more than four, other shapes, NaN, and two corners that are equal.
    """

    def __init__(self, kind: str, items: Sequence[Any], numbers: Sequence[int] | None = None) -> None:
        self.kind, self.items = kind, list(items)
        self.numbers = list(numbers or range(1, len(self.items) + 1))
        if not 1 <= len(self.items) <= MOST:
            raise ValueError(f"the {kind} has {len(self.items)} corners; expected 1 to {MOST}")
        if len(self.numbers) != len(self.items):
            raise ValueError(f"the {kind} has {len(self.items)} corners and {len(self.numbers)} numbers")
        self._check()

    def at(self, u: float, v: float) -> Any:
        """What is at (u, v), each from 0 to 1: see `linear_weights`. Without a second corner u and v do not
        matter, without a third v does not."""
        raise NotImplementedError

    def _tensors(self, item: Any) -> dict[str, Tensor]:
        """The tensors of one corner, by name, which `_check` compares."""
        return {"": item}

    def _check(self) -> None:
        parts = [self._tensors(item) for item in self.items]
        for number, own in zip(self.numbers, parts, strict=True):
            for name, tensor in own.items():
                if not bool(finite_items(tensor[None].float()).all()):
                    raise ValueError(
                        f"corner {number} of the {self.kind}{name} holds NaN or infinite values; expected "
                        "numbers"
                    )
        for number, own in zip(self.numbers[1:], parts[1:], strict=True):
            self._compare(number, own, parts[0])
        for later, (number, own) in enumerate(zip(self.numbers, parts, strict=True)):
            for other, before in zip(self.numbers[:later], parts[:later], strict=True):
                if all(torch.equal(own[name], before[name]) for name in own):
                    raise ValueError(
                        f"corners {other} and {number} of the {self.kind} are equal: nothing lies between. "
                        "Give others, such as other seeds"
                    )

    def _compare(self, number: int, own: dict[str, Tensor], first: dict[str, Tensor]) -> None:
        for name in first:
            shapes = tuple(first[name].shape), tuple(own[name].shape)
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"corner {number} of the {self.kind}{name} has shape {shapes[1]}, corner "
                    f"{self.numbers[0]} has {shapes[0]}; expected the same, made for the same model and size"
                )


class LinearCorners(Corners):
    """Corners with straight ways between them: latents, conditionings."""

    def at(self, u: float, v: float) -> Tensor:
        return weighted(self.items, linear_weights(len(self.items), u, v))


class SphericalCorners(Corners):
    """Corners of N(0, I) noise with arcs between them: first along u, then along v.

    The fourth of three is 2 + 3 - 1, as straight ones have it, brought to the length that noise has.
    """

    def _check(self) -> None:
        super()._check()
        if not all(bool((item != 0).any()) for item in self.items):
            raise ValueError(f"a corner of the {self.kind} is zero everywhere; expected N(0, I) noise")

    def at(self, u: float, v: float) -> Tensor:
        first, *others = self.items
        if not others:
            return first.clone()
        if len(others) == 1:
            return slerp(first, others[0], u)
        second, third, fourth = others if len(others) == 3 else (*others, self._opposite())
        return slerp(slerp(first, second, u), slerp(third, fourth, u), v)

    def _opposite(self) -> Tensor:
        first, second, third = self.items
        sum_, lengths = second + third - first, [torch.linalg.vector_norm(item) for item in self.items]
        return sum_ / torch.linalg.vector_norm(sum_) * torch.stack(lengths).mean()
