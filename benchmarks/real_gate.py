"""What a gate loses through adapters: its area under the ROC curve on drawings, by the probe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import lclip
from lclip import SafetyJudge, SafetyPolicy
from lclip.model.latent_clip import LatentCLIP
from lclip.statistics import Interval, area_under_roc

from .harness import Run, table
from .real import probe as probes
from .real.encoded import Encoded, load_encoded, pairs
from .real.probe_plan import NATIVE
from .real.taesd import CAVEAT

JUDGE, PLAN = "patch-4", "probe-style"
CONCEPTS = ("flag", "face", "animal")
"""What is blocked, each by a policy of its own: the key words that most of the drawings have."""
FALSE_POSITIVES = 0.1
RESAMPLES = 1000


def gate(run: Run, cache: Path) -> str:
    """A table: for every space, the area natively, through the shipped adapter, and what is lost."""
    path = probes.checkpoint(cache, JUDGE)
    if not path.is_file():
        return "The gate through adapters: no probe is trained; `python -m benchmarks.real probe` trains it."
    model, rows = lclip.load(path), []
    for space in probes.OTHERS:
        try:
            native, other, items = pairs(_encoded(cache, "sdxl"), _encoded(cache, space))
        except FileNotFoundError:
            continue
        run.say(f"the gate through {space}: {len(items)} drawings")
        shows = truth(items)
        adapted = lclip.apply_adapter(model, lclip.shipped_adapter(space))
        chances = [probabilities(reader, z) for reader, z in ((model, native), (adapted, other))]
        rows.append([space, len(items), *compared(chances[0], chances[1], shows)])
    if not rows:
        return "The gate through adapters: no drawings are encoded in other spaces."
    return (
        f"A gate that blocks one of {', '.join(CONCEPTS)}, asked about another hand's drawings, {CAVEAT}, by "
        "the probe, a small Latent-CLIP that sees little. Area under the ROC curve, and blocked of what is "
        f"to be at a threshold that also blocks {100 * FALSE_POSITIVES:.0f} % of the other drawings, set "
        "anew for each way; means over the concepts. Lost: points of area, with a bootstrap interval over "
        "drawings, both ways drawn together.\n\n"
        + table(("from", "n", "natively", "the shipped adapter", "lost", "blocked natively", "adapted"), rows)
    )


def _encoded(cache: Path, space: str) -> Encoded:
    return load_encoded(cache, PLAN, space, NATIVE)


def truth(items: Sequence[dict]) -> np.ndarray:
    """Whether each drawing's name or key words say each concept: [K, N], bool."""
    words = [{word.lower() for word in (*item["name"].split(), *item["keywords"])} for item in items]
    return np.array([[concept in said for said in words] for concept in CONCEPTS])


@torch.inference_mode()
def probabilities(model: LatentCLIP, z: Tensor) -> np.ndarray:
    """By a policy for each concept, with the others as safe texts: [K, N]."""
    found = []
    for concept in CONCEPTS:
        others = tuple(other for other in CONCEPTS if other != concept)
        policy = SafetyPolicy((lclip.Concept(concept, (concept,), others),), ("{}", "a drawing of {}"))
        judge = SafetyJudge(policy, model, check_scale=False)
        found.append(torch.cat([judge.probabilities(part.float())[:, 0] for part in z.split(50)]).numpy())
    return np.stack(found)


def compared(native: np.ndarray, adapted: np.ndarray, shows: np.ndarray) -> list[str]:
    """Areas, points lost, and the share that is blocked. All [K, N]."""
    areas = [mean_area(chances, shows) for chances in (native, adapted)]
    blocked = [f"{100 * mean_blocked(chances, shows):.0f} %" for chances in (native, adapted)]
    return [*(f"{area:.3f}" for area in areas), lost(native, adapted, shows).text(100, 1), *blocked]


def mean_area(chances: np.ndarray, shows: np.ndarray) -> float:
    """Area under the ROC curve, the mean over the concepts that both kinds of drawings are there for."""
    areas = [area_under_roc(p[~y], p[y]) for p, y in zip(chances, shows, strict=True) if 0 < y.sum() < len(y)]
    return float(np.mean(areas))


def mean_blocked(chances: np.ndarray, shows: np.ndarray) -> float:
    """Share of what shows a concept above the score that `FALSE_POSITIVES` of the others exceed."""
    return float(
        np.mean(
            [
                (p[y] > np.quantile(p[~y], 1 - FALSE_POSITIVES)).mean()
                for p, y in zip(chances, shows, strict=True)
            ]
        )
    )


def lost(native: np.ndarray, adapted: np.ndarray, shows: np.ndarray) -> Interval:
    """How much smaller the area is; the same drawings are drawn anew for both."""
    rng, number = np.random.default_rng(0), shows.shape[1]
    drawn = []
    for _ in range(RESAMPLES):
        at = rng.integers(number, size=number)
        drawn.append(mean_area(native[:, at], shows[:, at]) - mean_area(adapted[:, at], shows[:, at]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(mean_area(native, shows) - mean_area(adapted, shows), float(low), float(high), number)
