"""Towards a target: which items of a batch to keep so that concepts come out in given shares, and what each
of the others would have to show so that all together do.

What is chosen and steered is what a CLIP sees. It says nothing about persons; see `shares`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..latents.items import check_k
from ..model.latent_clip import LatentCLIP
from ..rewards.rewards import described
from ..scoring import all_alike, as_ranked, classify, require_distinct, too_many
from ..wording import Say, english
from .probabilities import check_probabilities, clear_winners
from .questions import TOLERANCE
from .shares import check_concepts, check_margin, check_target

logger = logging.getLogger("latent-clip")

CLOSE = 1e-9  # costs that differ by less are equal
KEEP = 1e6  # worth more than any sum of -log p


@dataclass(frozen=True)
class Balance:
    """What of a batch of B items meets a target, and what would have to change."""

    concepts: tuple[str, ...]
    target: tuple[float, ...]
    seen: tuple[int, ...]
    """[B] the concept that each item shows, by place; -1 where none wins clearly."""
    chosen: tuple[int, ...]
    """The items that are chosen, in the order of the batch."""
    rest: tuple[int, ...]
    """The others, in their order."""
    wanted: tuple[int, ...]
    """[B] the concept that each item is to show so that the whole batch comes nearest to the target. As many
    of the chosen as may keep their own; of the others those change that have least to change."""
    notes: tuple[str, ...] = ()
    """What did not come out as asked."""

    @property
    def before(self) -> float:
        """Total variation of what the clear items show to the target, 0 to 1; NaN where none is clear."""
        return self._distance([place for place in self.seen if place >= 0])

    @property
    def after(self) -> float:
        """The same of the chosen."""
        return self._distance([self.seen[item] for item in self.chosen])

    @property
    def steered(self) -> float:
        """The same of the whole batch, once every item shows what is wanted of it."""
        return self._distance(self.wanted)

    def _distance(self, places: Sequence[int]) -> float:
        counts = [places.count(place) for place in range(len(self.concepts))]
        return total_variation(counts, self.target) if places else math.nan

    def report(self, say: Say = english) -> str:
        """All of it in words: a line for the whole, one for each concept, one for each item that changes."""
        head = say(
            "{chosen} of {count} chosen; distance to the target {before} before, {after} of the chosen, "
            "{steered} once all show what is wanted",
            chosen=len(self.chosen),
            count=len(self.seen),
            before=f"{self.before:.3f}",
            after=f"{self.after:.3f}",
            steered=f"{self.steered:.3f}",
        )
        lines = [self._line(place, say) for place in range(len(self.concepts))]
        notes = [say("Caution: {text}", text=note) for note in self.notes]
        return "\n".join([head, *notes, *lines, *self._changes(say)])

    def _line(self, place: int, say: Say) -> str:
        return say(
            "{concept}: {seen} seen, {chosen} chosen, {wanted} wanted ({share})",
            concept=self.concepts[place],
            seen=self.seen.count(place),
            chosen=sum(self.seen[item] == place for item in self.chosen),
            wanted=self.wanted.count(place),
            share=f"{self.target[place]:.0%}",
        )

    def _changes(self, say: Say) -> list[str]:
        names = [*self.concepts, say("unclear")]  # -1 is the last
        return [
            say("item {item}: {text}", item=item, text=f"{names[seen]} -> {names[wanted]}")
            for item, (seen, wanted) in enumerate(zip(self.seen, self.wanted, strict=True))
            if seen != wanted
        ]


def balance(
    model: LatentCLIP,
    z: Tensor,
    concepts: Sequence[str],
    target: Sequence[float] | None = None,
    rewards: Tensor | None = None,
    k: int | None = None,
    templates: Sequence[str] = ("{}",),
    margin: float = 0.1,
    tolerance: float = TOLERANCE,
) -> Balance:
    """Choose the items of a batch that show some concepts in given shares, and say what the others lack.

    z: raw, clean latents [B, C, H, W], two items or more. concepts: two or more that differ. target: shares
    that sum to one; None: uniform. rewards: [B], which of the items that show a concept to prefer; None:
    those that show it most surely. k: how many to choose, as near to the target as they can be; None: as many
    as come within `tolerance` of it, in total variation; where no choice does, as many of each as a batch of
    B that meets it would show. margin: as for `shares`; items that are unclear, or
    whose reward is NaN, are never chosen. Steering: `ConceptReward(model, concepts, result.wanted)`.

    ValueError for concepts, targets or latents that cannot be used.
    """
    check_concepts(concepts)
    require_distinct(model, concepts, templates)
    with torch.no_grad():
        found = classify(model, z, concepts, templates)
    return balance_of(found, concepts, target, rewards, k, margin, tolerance)


def balance_of(
    probabilities: Tensor,
    concepts: Sequence[str],
    target: Sequence[float] | None = None,
    rewards: Tensor | None = None,
    k: int | None = None,
    margin: float = 0.1,
    tolerance: float = TOLERANCE,
) -> Balance:
    """The same of probabilities [B, L] that are there already, as `classify` gives them."""
    aims = check_target(target, check_concepts(concepts))
    check_probabilities(probabilities, len(concepts))
    size = len(probabilities)
    _check(size, rewards, k, margin, tolerance)
    table = probabilities.detach().cpu().double()
    known = torch.isfinite(table).all(1)
    if not bool(known.any()):
        raise ValueError("no item has a probability that is a number; check the latents")
    seen = torch.where(known, torch.tensor(clear_winners(table.nan_to_num(), margin)), -1).tolist()
    worth = table.amax(1) if rewards is None else as_ranked(rewards.detach().cpu().double())
    groups = [_ranked(seen, worth, place) for place in range(len(concepts))]
    there = [len(group) for group in groups]
    if k is not None:
        counts = nearest_counts(aims, min(k, sum(there)), groups, worth)
    else:
        found = largest_within(aims, groups, worth, tolerance)
        counts = found or [min(pair) for pair in zip(due_of(aims, size, there), there, strict=True)]
    chosen = sorted(item for group, count in zip(groups, counts, strict=True) for item in group[:count])
    rest = [item for item in range(size) if item not in set(chosen)]
    wanted = _wanted(table, seen, chosen, due_of(aims, size, counts))
    notes = _notes(concepts, aims, groups, seen, rewards, k, counts, tolerance)
    for note in notes:
        logger.warning("Balance: %s", note)
    return Balance(tuple(concepts), aims, tuple(seen), tuple(chosen), tuple(rest), wanted, tuple(notes))


def _check(size: int, rewards: Tensor | None, k: int | None, margin: float, tolerance: float) -> None:
    if size < 2:
        raise ValueError(f"the batch has {size} item; expected two or more: one alone has no shares")
    if rewards is not None and (not isinstance(rewards, Tensor) or tuple(rewards.shape) != (size,)):
        raise ValueError(f"rewards are {described(rewards)}; expected one for each item, [{size}]")
    if k is not None:
        check_k(k, size)
    check_margin(margin)
    if not 0 <= tolerance <= 1:
        raise ValueError(f"tolerance is {tolerance}; expected a total variation, 0 to 1")


def _ranked(seen: Sequence[int], worth: Tensor, place: int) -> list[int]:
    """The items that show a concept and may be chosen, best first; ties in the order of the batch."""
    values = worth.tolist()
    items = [item for item, own in enumerate(seen) if own == place and not math.isnan(values[item])]
    return sorted(items, key=lambda item: -values[item])


def total_variation(counts: Sequence[float], target: Sequence[float]) -> float:
    """Half the sum of the differences between shares and a target, 0 to 1. counts: not all 0."""
    whole = sum(counts)
    return sum(abs(count / whole - aim) for count, aim in zip(counts, target, strict=True)) / 2


def nearest_counts(
    target: Sequence[float], number: int, groups: Sequence[Sequence[int]], worth: Tensor
) -> list[int]:
    """How many of each concept, `number` in all, come nearest to the target; of those as near, the best.

    groups: the items of each concept, best first. worth: [B].
    """

    def of_next(place: int, count: int) -> float | None:
        return float(worth[groups[place][count]]) if count < len(groups[place]) else None

    dues = [aim * number for aim in target]
    least = [min(math.floor(due + CLOSE), len(group)) for due, group in zip(dues, groups, strict=True)]
    return allocated(dues, number - sum(least), least, of_next)


def allocated(
    dues: Sequence[float],
    number: int,
    counts: Sequence[int],
    worth: Callable[[int, int], float | None] = lambda place, count: 0.0,
) -> list[int]:
    """Counts to which `number` more are added so that they lie nearest to what is due; of those, the best.

    worth: what the next of a place adds, given its count; None where there is no more. One by one the place
    gets one that gains most. The cost |count - due| is convex in each count and each next one is worth less,
    so no other counts are nearer, or as near and better (greedy allocation, Fox 1966).
    """
    grown = list(counts)
    for _ in range(number):
        values = {
            place: value for place, count in enumerate(grown) if (value := worth(place, count)) is not None
        }
        gains = {
            place: abs(grown[place] - dues[place]) - abs(grown[place] + 1 - dues[place]) for place in values
        }
        grown[max(values, key=lambda place: (round(gains[place] / CLOSE), values[place]))] += 1
    return grown


def largest_within(
    target: Sequence[float], groups: Sequence[Sequence[int]], worth: Tensor, tolerance: float
) -> list[int] | None:
    """The counts of the largest choice within the tolerance of the target; None where there is none."""
    for number in range(sum(map(len, groups)), 0, -1):
        pairs = zip(target, groups, strict=True)
        short = sum(max(0.0, aim - len(group) / number) for aim, group in pairs)
        if short > tolerance + CLOSE:
            continue  # whatever is chosen, these lack
        counts = nearest_counts(target, number, groups, worth)
        if total_variation(counts, target) <= tolerance + CLOSE:
            return counts
    return None


def due_of(target: Sequence[float], number: int, there: Sequence[int]) -> list[int]:
    """How many of each concept a batch of that number is to show; of counts as near those that more are
    there for."""
    dues = [aim * number for aim in target]
    return allocated(dues, number, [0] * len(target), lambda place, count: float(count < there[place]))


def _wanted(table: Tensor, seen: Sequence[int], chosen: Sequence[int], due: Sequence[int]) -> tuple[int, ...]:
    """The concept of every item, so that so many show each as are due: the assignment problem (Kuhn 1955).

    First as many of the chosen as may keep theirs do; then the least cost, which is the sum of -log p.
    """
    from scipy.optimize import linear_sum_assignment

    slots = [place for place, count in enumerate(due) for _ in range(count)]
    cost = -table[:, slots].clamp_min(1e-12).log().nan_to_num()  # [B, B]
    keeps = torch.zeros_like(cost)
    for item in chosen:
        keeps[item] = torch.tensor([float(place == seen[item]) for place in slots])
    rows, columns = linear_sum_assignment((cost - KEEP * keeps).numpy())
    return tuple(slots[column] for _, column in sorted(zip(rows, columns, strict=True)))


def _notes(
    concepts: Sequence[str],
    target: Sequence[float],
    groups: Sequence[Sequence[int]],
    seen: Sequence[int],
    rewards: Tensor | None,
    k: int | None,
    counts: Sequence[int],
    tolerance: float,
) -> list[str]:
    """What did not come out as asked."""
    notes = []
    able = sum(map(len, groups))
    if k is not None and (text := too_many(k, len(seen))):
        notes.append(text)
    elif k is not None and k > able:
        notes.append(f"k is {k}, and {able} items can be chosen: they are")
    if able == 0:
        clear = any(place >= 0 for place in seen)
        notes.append(
            "no item that shows one concept clearly has a reward: none is chosen"
            if clear
            else "no item shows one concept clearly: none is chosen"
        )
    dues = [1.0 if aim else 0.0 for aim in target] if k is None else [aim * min(k, able) for aim in target]
    short = [n for n, due, group in zip(concepts, dues, groups, strict=True) if len(group) < math.floor(due)]
    if able and short:
        notes.append(f"too few to choose show {', '.join(short)}")
    if sum(counts) and k is None and (left := total_variation(counts, target)) > tolerance + CLOSE:
        notes.append(
            f"no choice comes within {tolerance:g} of the target. Chosen are those that a batch of "
            f"{len(seen)} may keep of each, {left:.3f} from it"
        )
    if rewards is not None:
        notes += _doubts(rewards)
    return notes


def _doubts(rewards: Tensor) -> list[str]:
    broken = rewards.isnan().nonzero().flatten().tolist()
    notes = [f"the reward of items {broken} is NaN: they are not chosen"] if broken else []
    if all_alike(rewards):
        notes.append("all rewards are equal: the first of each concept are chosen")
    return notes
