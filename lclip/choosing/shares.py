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

from ..latents.items import finite_items, is_whole
from ..model.latent_clip import LatentCLIP
from ..scoring import classify, require_distinct
from ..statistics import RESAMPLES, Interval, bootstrap, wilson

COLUMNS = (
    *("concept", "hard", "hard_low", "hard_high", "soft", "soft_low", "soft_high", "target"),
    *("corrected", "items", "unclear", "distance"),
)
"""Of the table."""
ROUNDED_SUM = 0.02
"""How far from one the probabilities of an item may add up, in half precision too."""
APART = 0.05
"""The least singular value of a confusion table by which shares are corrected: 1 where no concept is taken
for another, 0 where one is not told from the others."""
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
        return sum(abs(a - b) for a, b in zip(found, self.target, strict=True)) / 2

    def distance_interval(self, seed: int = 0) -> Interval:
        """The same with its interval by a bootstrap over the clear items (Efron 1979); of corrected or soft
        shares it has none, NaN."""
        value, count = self.distance, self.hard[0].n
        if self.corrected or not count:
            return Interval(value, math.nan, math.nan, self.items)
        drawn = np.random.default_rng(seed).multinomial(
            count, [each.value for each in self.hard], size=RESAMPLES
        )
        distances = np.abs(drawn / count - np.array(self.target)).sum(1) / 2
        low, high = np.percentile(distances, [2.5, 97.5])
        return Interval(value, float(low), float(high), count)

    def as_json(self) -> dict[str, Any]:
        """All of it as an object for JSON, which knows no NaN: what is no number is None."""
        return _plain({**asdict(self), "distance": self.distance})

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
        corrected = self.corrected or (None,) * len(self.concepts)
        rows = zip(self.concepts, self.hard, self.soft, self.target, corrected, strict=True)
        for name, hard, soft, aim, right in rows:
            figures = [f"{x:.6g}" for x in (*hard.figures, *soft.figures, aim)]
            writer.writerow([name, *figures, "" if right is None else f"{right:.6g}", *whole])
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
    corrected = _corrected(hard, confusion) if confusion is not None and clear else None
    unclear = len(known) - len(clear)
    broken = len(probabilities) - len(known)
    return Shares(tuple(concepts), hard, soft, unclear, broken, aims, corrected)


def check_probabilities(found: Tensor, count: int | None = None) -> None:
    """ValueError unless rows sum to one, or are NaN: [B, L]. Of cosines or logits there are no shares."""
    wanted = f"[items, {'concepts' if count is None else count}]"
    if not isinstance(found, Tensor) or found.ndim != 2 or count not in (None, found.shape[1]):
        got = f"of shape {list(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise ValueError(f"the probabilities are {got}; expected {wanted}, one for each concept")
    known = found[torch.isfinite(found).all(1)].detach().cpu().double()
    wrong = (known < 0).any(1) | ((known.sum(1) - 1).abs() > ROUNDED_SUM)
    if bool(wrong.any()):
        row = [round(each, 4) for each in known[wrong][0][:8].tolist()]
        raise ValueError(f"{row} are no probabilities; expected what `classify` gives: they sum to 1")


def clear_winners(probabilities: Tensor, margin: float) -> list[int]:
    """Per item the concept that wins by the margin, or -1: [B, L] -> B numbers."""
    top = probabilities.topk(2, dim=1)
    clear = top.values[:, 0] - top.values[:, 1] >= margin
    return torch.where(clear, top.indices[:, 0], -1).tolist()


def check_concepts(concepts: Sequence[str]) -> int:
    """How many concepts there are. ValueError for fewer than two, and for two that are written alike but for
    case and space: both would have a share of the same."""
    if isinstance(concepts, str):
        raise ValueError(f"the concepts are the text {concepts!r}; expected a list of texts")
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


def confusion(
    probabilities: Tensor, labels: Sequence[int], margin: float = 0.1, names: Sequence[str] | None = None
) -> Tensor:
    """How often each concept is taken for each, from items whose truth is known: [L, L], rows sum to one.

    probabilities: [B, L]; labels: the true concept of each item; names: of the concepts, for errors.
    Row t holds what is seen where t is true, among the clear. ValueError where a concept has no clear item.
    """
    check_probabilities(probabilities)
    count, labels = probabilities.shape[1], [_number(label) for label in labels]
    wrong = [label for label in labels if not is_whole(label) or not 0 <= label < count]
    if wrong:
        raise ValueError(f"the label {wrong[0]} is no concept; expected a number from 0 to {count - 1}")
    if len(labels) != len(probabilities):
        raise ValueError(f"there are {len(labels)} labels for {len(probabilities)} items; expected one each")
    table = torch.zeros(count, count, dtype=torch.float64)
    for truth, seen in zip(labels, clear_winners(probabilities.cpu(), margin), strict=True):
        if seen >= 0:
            table[truth, seen] += 1
    if bool((table.sum(1) == 0).any()):
        missing = (table.sum(1) == 0).nonzero().flatten().tolist()
        told = [names[place] for place in missing] if names else missing
        raise ValueError(f"concepts {told} have no clear example; expected at least one of each")
    return table / table.sum(1, keepdim=True)


def tells_apart(table: Tensor) -> bool:
    """Whether shares can be corrected by a confusion table [L, L] at all."""
    return float(torch.linalg.svdvals(table.detach().cpu().double())[-1]) >= APART


def _number(label: Any) -> Any:
    """Python's own number of a tensor's."""
    return label.item() if isinstance(label, Tensor) else label


def _plain(value: Any) -> Any:
    """Whatever JSON takes, with None for a number that is none."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _corrected(hard: Sequence[Interval], table: Tensor) -> tuple[float, ...]:
    """Shares s' with s = C^T s' (adjusted count, Forman 2008), held to 0..1 and to a sum of one."""
    rows = torch.as_tensor(table).detach().cpu().double()
    whole = bool(torch.isfinite(rows).all()) and bool((rows >= 0).all())
    if rows.shape != (len(hard), len(hard)) or not whole or not bool((rows.sum(1) - 1).abs().max() <= 1e-3):
        raise ValueError(
            f"confusion is no table of {len(hard)} x {len(hard)} shares whose rows sum to one; take what "
            "`confusion` gives for these concepts"
        )
    if not tells_apart(rows):
        raise ValueError(
            f"the confusion table is {rows.tolist()}: concepts are taken for each other so much that nothing "
            "can be corrected by it. Leave it out, or word the concepts otherwise"
        )
    seen = np.array([each.value for each in hard])
    solved, *_ = np.linalg.lstsq(rows.numpy().T, seen, rcond=None)
    held = np.clip(solved, 0, None)
    return tuple(float(x) for x in held / held.sum())
