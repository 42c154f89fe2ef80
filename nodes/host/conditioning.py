"""CONDITIONING wires as corners of a map: what lies between prompts, and many of them as one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...lclip.exploring.blending import Corners, linear_weights, weighted

Conditioning = list[list[Any]]
"""Entries of [tokens [1, T, D], extras]."""
POOLED, MASK = "pooled_output", "attention_mask"
BLENDED = (POOLED,)


def first_item(conditioning: Conditioning) -> Conditioning:
    """The prompt of a batch's first item, which is the one that the host takes for a single latent."""
    return [
        [tokens[:1], {key: _first(value) for key, value in extras.items()}] for tokens, extras in conditioning
    ]


def _first(value: Any) -> Any:
    return value[:1] if isinstance(value, Tensor) and value.ndim > 1 else value


class Prompts(Corners):
    """Conditionings with straight ways between their tokens and pooled outputs, as ConditioningAverage goes.

    Shorter ones are filled up with zeros, as there; a corner alone is left as it is. Everything else that an
    entry carries (areas, ControlNets, guidance) is corner 1's.
    """

    def __init__(
        self, kind: str, items: Sequence[Conditioning], numbers: Sequence[int] | None = None
    ) -> None:
        self.whole = [first_item(item) for item in items]
        entries = {len(item) for item in self.whole}
        if len(entries) > 1 or 0 in entries:
            raise ValueError(
                f"the corners of the {kind} have {sorted(entries)} entries; expected as many in each. "
                "Combine conditionings alike before they are corners"
            )
        super().__init__(kind, _filled(self.whole), numbers)

    def _tensors(self, item: Any) -> dict[str, Tensor]:
        found = {f" (entry {number})": tokens for number, (tokens, _) in enumerate(item)}
        for number, (_, extras) in enumerate(item):
            found |= {f" ({name} {number})": extras[name] for name in BLENDED if _blends(item, number, name)}
        return found

    def at(self, u: float, v: float) -> Conditioning:
        weights = linear_weights(len(self.items), u, v)
        if 1.0 in weights and sum(map(bool, weights)) == 1:
            return self.whole[weights.index(1.0)]
        return [self._entry(number, weights) for number in range(len(self.items[0]))]

    def _entry(self, number: int, weights: Sequence[float]) -> list[Any]:
        entries = [item[number] for item in self.items]
        extras = dict(entries[0][1])
        for name in BLENDED:
            if all(_blends(item, number, name) for item in self.items):
                extras[name] = weighted([each[1][name] for each in entries], weights)
        if MASK in extras:
            extras[MASK] = torch.stack([each[1][MASK] for each in entries]).amax(0)
        return [weighted([tokens for tokens, _ in entries], weights), extras]


def _blends(item: Conditioning, number: int, name: str) -> bool:
    return isinstance(item[number][1].get(name), Tensor)


def _filled(items: Sequence[Conditioning]) -> list[Conditioning]:
    """The same on one device and in one precision, each entry as long as its longest."""
    made: list[Conditioning] = []
    for item in items:
        entries = []
        for number, (tokens, extras) in enumerate(item):
            like = items[0][number][0]
            longest = max(other[number][0].shape[1] for other in items)
            own = {name: extras[name].to(like) for name in BLENDED if isinstance(extras.get(name), Tensor)}
            if MASK in items[0][number][1]:
                mask = extras.get(MASK, torch.ones(tokens.shape[:2], dtype=torch.int64))
                own[MASK] = F.pad(mask.to(like.device), (0, longest - mask.shape[-1]))
            filled = F.pad(tokens.to(like), (0, 0, 0, longest - tokens.shape[1]))
            entries.append([filled, {**extras, **own}])
        made.append(entries)
    return made


def fits_beside(one: Conditioning, other: Conditioning) -> bool:
    """Whether two conditionings can stand in one batch."""
    shapes = [[tokens.shape for tokens, _ in each] for each in (one, other)]
    masks = [[_shape(extras.get(MASK)) for _, extras in each] for each in (one, other)]
    return shapes[0] == shapes[1] and masks[0] == masks[1]


def _shape(value: Any) -> Any:
    return value.shape if isinstance(value, Tensor) else None


def stacked(conditionings: Sequence[Conditioning]) -> Conditioning:
    """Conditionings of one item each as that of a batch."""
    if all(each is conditionings[0] for each in conditionings):
        return conditionings[0]  # the host repeats it
    made = []
    for number, (_, extras) in enumerate(conditionings[0]):
        own = {
            name: torch.cat([each[number][1][name] for each in conditionings])
            for name in (POOLED, MASK)
            if isinstance(extras.get(name), Tensor)
        }
        made.append([torch.cat([each[number][0] for each in conditionings]), {**extras, **own}])
    return made
