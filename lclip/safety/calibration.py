"""Thresholds of a safety policy from examples: how often harmless latents may be blocked decides."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..checkpoints.fingerprint import fingerprint_of_all
from ..latents.checks import check_readable
from ..latents.items import finite_items
from ..latents.siblings import sibling_doubt
from ..statistics import area_under_roc, roc_curve, wilson
from ..wording import Say, english
from .judge import SafetyJudge
from .policy import PolicyData, log_odds
from .unreadable import why_unreadable

if TYPE_CHECKING:
    from ..model.latent_clip import LatentCLIP

logger = logging.getLogger("latent-clip")

ENOUGH = 50  # examples a side; with fewer, a rate of a few per cent cannot be told from none
CHUNK = 64  # latents judged at once
HALF_STEP = 0.25  # log-odds above the highest harmless example, where nothing lies above it


@dataclass(frozen=True)
class ConceptCalibration:
    """What the examples say about one concept."""

    name: str
    threshold: float
    auc: float
    """Chance that a random unsafe example scores above a random safe one; ties count half."""
    false_positive_rate: float
    true_positive_rate: float
    curve: tuple[tuple[float, float], ...]
    """The ROC curve: (false-positive rate, true-positive rate), from (0, 0) to (1, 1)."""

    def text(self, say: Say = english) -> str:
        """A line of a report."""
        return say(
            "{concept}: threshold {threshold}, AUC {auc}, {false} of the safe and {true} of the unsafe "
            "blocked",
            concept=self.name,
            threshold=f"{self.threshold:.4g}",
            auc=f"{self.auc:.3f}",
            false=f"{self.false_positive_rate:.1%}",
            true=f"{self.true_positive_rate:.1%}",
        )


@dataclass(frozen=True)
class Calibration:
    """A policy with new thresholds, and how it does on the examples that they came from."""

    policy: PolicyData
    target: float
    concepts: tuple[ConceptCalibration, ...]
    safe_count: int
    unsafe_count: int
    safe_blocked: int
    """Safe examples that some concept blocks."""
    unsafe_blocked: int
    warnings: tuple[str, ...]

    @property
    def false_positive_rate(self) -> float:
        return self.safe_blocked / self.safe_count

    @property
    def true_positive_rate(self) -> float:
        return self.unsafe_blocked / self.unsafe_count

    def text(self, say: Say = english) -> str:
        """As a report to read."""
        lines = [
            say(
                "Calibration of {policy}: {safe} safe and {unsafe} unsafe latents, at most {target} of the "
                "safe ones blocked",
                policy=self.policy.name,
                safe=self.safe_count,
                unsafe=self.unsafe_count,
                target=f"{self.target:.1%}",
            ),
            say(
                "all concepts together: {false} of the safe, {true} of the unsafe blocked (95 % intervals)",
                false=wilson(self.safe_blocked, self.safe_count).percent(),
                true=wilson(self.unsafe_blocked, self.unsafe_count).percent(),
            ),
        ]
        lines += [concept.text(say) for concept in self.concepts]
        lines.append(say("These rates are of the examples themselves: new latents will do somewhat worse."))
        return "\n".join([*lines, *(say("Warning: {text}", text=warning) for warning in self.warnings)])


def calibrate(
    policy: PolicyData,
    model: LatentCLIP | Sequence[LatentCLIP],
    safe: Tensor,
    unsafe: Tensor,
    target: float = 0.05,
) -> Calibration:
    """Set every threshold so that the policy blocks at most a share `target` of the safe examples.

    safe, unsafe: clean raw latents [N, C, H, W] and [M, C, H, W]. The share is held by all concepts together:
    each lets equally many safe examples lie above its threshold, as many as fit. The new policy has
    strictness "medium" and is bound to the model, and to how that reads other sizes. An example that is not
    finite does not count, and a warning says so. ValueError: a target outside 0..1, or other examples that
    cannot be judged.
    """
    if not 0 <= target < 1:
        raise ValueError(f"the target false-positive rate is {target}; expected 0 or more, and below 1")
    free = policy.changed(model=None, strictness="medium", size_rule=None)
    judge = SafetyJudge(free, model)
    free = judge.policy  # with the everyday texts that it asks about
    given = len(safe), len(unsafe)
    safe, unsafe = (_finite(z, side, judge) for z, side in ((safe, "safe"), (unsafe, "unsafe")))
    scores = {
        "safe": _scores(judge, safe, "safe"),
        "unsafe": _scores(judge, unsafe, "unsafe"),
    }  # [N, C] log-odds
    cuts = _cuts(scores["safe"], scores["unsafe"], target)
    thresholds = [_probability(cut) for cut in cuts]
    concepts = tuple(replace(c, threshold=t) for c, t in zip(free.concepts, thresholds, strict=True))
    new = free.changed(
        concepts=concepts,
        model=fingerprint_of_all(judge.models),
        latent_space=judge.config.latent_space,
        size_rule=judge.size_rule,
    )
    cut = [log_odds(threshold) for threshold in thresholds]
    blocked = {side: values >= torch.tensor(cut, dtype=torch.float64) for side, values in scores.items()}
    rows = tuple(
        ConceptCalibration(
            name=concept.name,
            threshold=concept.threshold,
            auc=area_under_roc(scores["safe"][:, c].numpy(), scores["unsafe"][:, c].numpy()),
            false_positive_rate=float(blocked["safe"][:, c].cpu().double().mean()),
            true_positive_rate=float(blocked["unsafe"][:, c].cpu().double().mean()),
            curve=roc_curve(scores["safe"][:, c].numpy(), scores["unsafe"][:, c].numpy()),
        )
        for c, concept in enumerate(concepts)
    )
    safe_blocked = int(_blocked(scores["safe"], cut).sum())
    warnings = (
        *_left_out(given, (len(safe), len(unsafe))),
        *_of_another_space({"safe": safe, "unsafe": unsafe}, judge),
        *_warnings(len(safe), len(unsafe), target, rows, safe_blocked),
    )
    for warning in warnings:
        logger.warning("Safety calibration: %s", warning)
    return Calibration(
        policy=new,
        target=target,
        concepts=rows,
        safe_count=len(safe),
        unsafe_count=len(unsafe),
        safe_blocked=safe_blocked,
        unsafe_blocked=int(_blocked(scores["unsafe"], cut).sum()),
        warnings=warnings,
    )


def _finite(z: Tensor, side: str, judge: SafetyJudge) -> Tensor:
    """The examples without those that are not finite: [N, C, H, W]. ValueError where none is."""
    try:
        z = check_readable(z, judge.config)
    except ValueError as error:
        raise ValueError(f"the {side} examples: {error}") from error
    return z[finite_items(z)]


def _left_out(given: tuple[int, int], kept: tuple[int, int]) -> list[str]:
    return [
        f"{before - after} of {before} {side} examples hold NaN or infinity and do not count"
        for side, before, after in zip(("safe", "unsafe"), given, kept, strict=True)
        if before > after
    ]


def _of_another_space(examples: dict[str, Tensor], judge: SafetyJudge) -> list[str]:
    doubts = {side: sibling_doubt(z, judge.config) for side, z in examples.items()}
    return [f"{side}: {text}" for side, text in doubts.items() if text]


def _scores(judge: SafetyJudge, z: Tensor, side: str) -> Tensor:
    reasons = why_unreadable(z, judge.config, judge.check_scale)
    probabilities = torch.cat([judge.probabilities(part) for part in z.split(CHUNK)])
    bad = [i for i, why in enumerate(reasons) if why or not bool(torch.isfinite(probabilities[i]).all())]
    if bad:
        why = reasons[bad[0]] or "the model answered with NaN or infinity"
        raise ValueError(f"the {side} examples, item {bad[0]} ({len(bad)} in all): {why}. Take it out.")
    return torch.tensor([[log_odds(p) for p in row] for row in probabilities.tolist()], dtype=torch.float64)


def _cuts(safe: Tensor, unsafe: Tensor, target: float) -> list[float]:
    """Per concept the log-odds to block from: as many safe examples above it as the whole policy can
    afford. safe: [N, C], unsafe: [M, C]; n log n.
    """
    ordered = [(safe[:, c].sort().values, unsafe[:, c].sort().values) for c in range(safe.shape[1])]

    def cuts(above: int) -> list[float]:
        return [_cut(below, beyond, above) for below, beyond in ordered]

    # The more may lie above each cut, the more are blocked: the most that fit are found by halves.
    allowed = min(_allowed(target, len(safe)), len(safe) - 1)
    low, high = 0, allowed
    while low < high:
        middle = (low + high + 1) // 2
        fits = int(_blocked(safe, cuts(middle)).sum()) <= allowed
        low, high = (middle, high) if fits else (low, middle - 1)
    return cuts(low)


def _allowed(target: float, number: int) -> int:
    return math.floor(target * number + 1e-9)


def _blocked(scores: Tensor, cuts: Sequence[float]) -> Tensor:
    """Which examples [N, C] lie at or over any concept's cut: [N]."""
    return (scores >= torch.tensor(cuts, dtype=torch.float64)).any(1)


def _cut(safe: Tensor, unsafe: Tensor, above: int) -> float:
    """A value with at most `above` safe scores at or over it: half way from the next lower one.

    safe, unsafe: sorted upwards. Where no safe score is to lie above, the nearest unsafe one counts too.
    """
    passing = float(safe[len(safe) - 1 - above])
    higher = [_next_above(side, passing) for side in ((safe, unsafe) if above == 0 else (safe,))]
    nearest = min(higher)
    return passing + (HALF_STEP if math.isinf(nearest) else (nearest - passing) / 2)


def _next_above(ordered: Tensor, value: float) -> float:
    place = int(torch.searchsorted(ordered, value, right=True))
    return float(ordered[place]) if place < len(ordered) else math.inf


def _probability(cut: float) -> float:
    return min(max(1 / (1 + math.exp(-max(min(cut, 700.0), -700.0))), 1e-15), 1 - 1e-15)


def _warnings(
    safe: int, unsafe: int, target: float, rows: Sequence[ConceptCalibration], safe_blocked: int
) -> tuple[str, ...]:
    found = [
        f"only {count} {side} examples; with fewer than {ENOUGH} a side the thresholds are little more than "
        "guesses"
        for side, count in (("safe", safe), ("unsafe", unsafe))
        if count < ENOUGH
    ]
    if safe_blocked > _allowed(target, safe):
        found.append(
            f"the target is missed: {safe_blocked} of {safe} safe examples are blocked, at most "
            f"{_allowed(target, safe)} were to be. Their probabilities are as high as they get: the texts "
            "see the concept in harmless latents. Word them differently"
        )
    if 0 < target * safe < 1:
        found.append(f"{target:.1%} of {safe} safe examples is less than one, so none may be blocked")
    found += [
        f"{row.name} does not tell these examples apart (AUC {row.auc:.2f})" for row in rows if row.auc < 0.6
    ]
    return tuple(found)
