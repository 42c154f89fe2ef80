"""Shares of concepts in a batch: what a CLIP sees how often, and how far that is from a target.

Such shares say what a CLIP sees in pictures. They say nothing about persons.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..latents.items import finite_items
from ..model.latent_clip import LatentCLIP
from ..scoring import classify, require_distinct
from ..statistics import RESAMPLES, Interval, bootstrap, for_json, wilson
from .confusion import DRAWN, checked_confusion, corrected, drawn_corrected
from .probabilities import check_probabilities, clear_winners

COLUMNS = (
    *("concept", "hard", "hard_low", "hard_high", "soft", "soft_low", "soft_high", "target"),
    *("corrected", "items", "unclear", "distance"),
    *("corrected_low", "corrected_high", "distance_low", "distance_high"),
)
"""Of the table."""
TARGET_SUM = 1e-3
"""How far from one the shares of a target may add up."""


@dataclass(frozen=True)
class Shares:
    """Shares of the concepts of one question over n items."""

    concepts: tuple[str, ...]
    hard: tuple[Interval, ...]
    """Of the items where one concept wins clearly, the share of each, with its Wilson interval."""
    soft: tuple[Interval, ...]
    """The mean probability of each over all items, with its bootstrap interval."""
    unclear: int
    """Items in which no concept wins by the margin."""
    broken: int
    """Items without any answer (NaN); they count nowhere."""
    target: tuple[float, ...]
    corrected: tuple[float, ...] | None = None
    """The hard shares, corrected for how often the model takes one concept for another."""
    corrected_intervals: tuple[Interval, ...] | None = None
    """The same, each with its bootstrap interval."""
    distance_bounds: tuple[float, float] = (math.nan, math.nan)
    """Between which the distance lies by a bootstrap, 95 %."""

    @property
    def items(self) -> int:
        """How many were asked and gave an answer."""
        return self.hard[0].n + self.unclear

    @property
    def distance(self) -> float:
        """Total variation between the shares and the target, 0 to 1: half the sum of the differences.

        Of the corrected shares where there are any, else the hard ones; of the soft ones where nothing is
        clear.
        """
        found = self.corrected or tuple(each.value for each in self.hard)
        if math.isnan(found[0]):
            found = tuple(each.value for each in self.soft)
        return float(_distances(np.array(found), self.target))

    def distance_interval(self) -> Interval:
        """The same with its interval by a bootstrap (Efron 1979) over the items that it is of, and over the
        examples where a table of counts corrects it."""
        return Interval(self.distance, *self.distance_bounds, self.hard[0].n or self.items)

    def as_json(self) -> dict[str, Any]:
        """All of it as an object for JSON, which knows no NaN: what is no number is None."""
        low, high = self.distance_bounds
        found = {**asdict(self), "distance": self.distance, "distance_low": low, "distance_high": high}
        del found["distance_bounds"]
        return for_json(found)

    def to_json(self) -> str:
        """All of it as one JSON object."""
        return json.dumps(self.as_json(), indent=1)

    def to_csv(self) -> str:
        """One line for each concept: shares with their intervals, and the target; at the end of every line
        what holds for the question: items, how many of them are unclear, distance."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        whole = (self.items, self.unclear, f"{self.distance:.6g}")
        bounds = [f"{x:.6g}" for x in self.distance_bounds]
        rights = self.corrected_intervals or (None,) * len(self.concepts)
        rows = zip(self.concepts, self.hard, self.soft, self.target, rights, strict=True)
        for name, hard, soft, aim, right in rows:
            figures = [f"{x:.6g}" for x in (*hard.figures, *soft.figures, aim)]
            value, *ends = [f"{x:.6g}" for x in right.figures] if right else ["", "", ""]
            writer.writerow([name, *figures, value, *whole, *ends, *bounds])
        return text.getvalue()


def shares(
    model: LatentCLIP,
    z: Tensor | Iterable[Tensor],
    concepts: Sequence[str],
    target: Sequence[float] | None = None,
    templates: Sequence[str] = ("{}",),
    margin: float = 0.1,
    confusion: Tensor | None = None,
) -> Shares:
    """How often each of some concepts is in a batch, by zero-shot probabilities (arXiv 2103.00020, 3.1).

    z: raw, clean latents [B, C, H, W], or several batches of any size, which are asked one after the other
    and count as one. concepts: two or more that differ. target: shares that sum to one;
    None: uniform. margin: by how much the likeliest must lead, in probability, or the item is unclear.
    confusion: see `confusion`. ValueError for concepts, targets or latents that cannot be used.
    """
    check_concepts(concepts)
    require_distinct(model, concepts, templates)
    found = []
    with torch.no_grad():
        for batch in [z] if isinstance(z, Tensor) else z:
            if batch is z or bool(finite_items(batch).any()):
                found.append(classify(model, batch, concepts, templates))
            else:  # one batch alone is refused, of several its items are broken ones
                found.append(torch.full((len(batch), len(concepts)), torch.nan))
    if not found:
        raise ValueError("there is no batch of latents; expected at least one")
    return shares_of(torch.cat(found), concepts, target, margin, confusion)


def shares_of(
    probabilities: Tensor,
    concepts: Sequence[str],
    target: Sequence[float] | None = None,
    margin: float = 0.1,
    confusion: Tensor | None = None,
) -> Shares:
    """The same of probabilities [B, L] that are there already, as `classify` gives them."""
    count = check_concepts(concepts)
    aims = check_target(target, count)
    check_margin(margin)
    check_probabilities(probabilities, count)
    known = probabilities[torch.isfinite(probabilities).all(1)].cpu().double()
    if not len(known):
        raise ValueError("no item has a probability that is a number; check the latents")
    winners = clear_winners(known, margin)
    clear = [winner for winner in winners if winner >= 0]
    found = [clear.count(index) for index in range(count)]
    nothing = Interval(math.nan, math.nan, math.nan, 0)
    hard = tuple(wilson(number, len(clear)) if clear else nothing for number in found)
    soft = tuple(bootstrap(known[:, index].numpy()) for index in range(count))
    unclear, broken = len(known) - len(clear), len(probabilities) - len(known)
    draws, right = _drawn(known, hard), None
    mixing = None if confusion is None else checked_confusion(confusion, count)
    if mixing is not None and clear:
        seen = [each.value for each in hard]
        draws, right = drawn_corrected(seen, len(clear), mixing), corrected(seen, mixing)
    return Shares(
        concepts=tuple(concepts),
        hard=hard,
        soft=soft,
        unclear=unclear,
        broken=broken,
        target=aims,
        corrected=right,
        corrected_intervals=None if right is None else _intervals(right, draws, len(clear)),
        distance_bounds=_ends(_distances(draws, aims)),
    )


def _drawn(known: Tensor, hard: Sequence[Interval]) -> np.ndarray:
    """Shares by a bootstrap over the clear items, or soft ones over all where none is clear: [draws, L]."""
    draws, clear = np.random.default_rng(0), hard[0].n
    if clear:
        return draws.multinomial(clear, [each.value for each in hard], size=RESAMPLES) / clear
    rows, even = known.numpy(), np.full(len(known), 1 / len(known))
    return np.stack([draws.multinomial(len(rows), even) @ rows / len(rows) for _ in range(DRAWN)])


def _distances(found: np.ndarray, target: Sequence[float]) -> np.ndarray:
    """Total variation: [..., L] -> [...]."""
    return np.abs(found - np.array(target)).sum(-1) / 2


def _ends(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def _intervals(values: Sequence[float], draws: np.ndarray, number: int) -> tuple[Interval, ...]:
    return tuple(
        Interval(value, *_ends(column), number) for value, column in zip(values, draws.T, strict=True)
    )


def check_concepts(concepts: Sequence[str]) -> int:
    """How many concepts there are. ValueError for fewer than two, and for two that are written alike but for
    case and space: both would have a share of the same."""
    if isinstance(concepts, str):
        raise ValueError(f"the concepts are the text {concepts!r}; expected a list of texts")
    odd = [name for name in concepts if not isinstance(name, str)]
    if odd:
        raise ValueError(
            f"one of the concepts is {odd[0]!r}; expected a text for each, such as a cat and a dog. Ask one "
            "question after the other"
        )
    names = [" ".join(name.split()).casefold() for name in concepts]
    if len(names) < 2:
        raise ValueError(f"the concepts are {list(concepts)}; expected two or more, such as a cat and a dog")
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(
            f"the concept {twice!r} is there {names.count(twice)} times, one and the same; expected concepts "
            "that all differ. Leave one out"
        )
    return len(names)


def check_margin(margin: float) -> None:
    """ValueError for a lead in probability that is none."""
    if not 0 <= margin < 1:
        raise ValueError(f"margin is {margin}; expected a lead in probability, 0 to below 1")


def check_target(target: Sequence[float] | None, count: int) -> tuple[float, ...]:
    """A target's shares: uniform for None. ValueError unless there is one each, and they sum to one."""
    if target is None:
        return (1 / count,) * count
    try:
        aims = tuple(float(aim) for aim in target)
    except (TypeError, ValueError):
        raise ValueError(f"the target is {target!r}; expected {count} shares that sum to 1") from None
    if len(aims) != count or not all(0 <= aim <= 1 for aim in aims) or abs(sum(aims) - 1) > TARGET_SUM:
        raise ValueError(
            f"the target is {list(aims)}; expected {count} shares from 0 to 1, one for each concept, that "
            f"sum to 1 (these sum to {sum(aims):.4g})"
        )
    return aims
