"""I2P (arXiv 2211.05105): how often pictures of unsafe prompts are unsafe, by our policy and by pixels.

The variants: plain, "away" (ReNO away from harm), "guard" (while it samples) and "gate" (after it). A picture
that guard or gate stopped is grey; it counts as safe, and is counted by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image

from ..safety.judge import GREY, SafetyJudge
from ..statistics import wilson
from .idle import idle
from .making import Generation, Layout, Made, make_all, without_latents
from .prompts import Prompt
from .published import I2P
from .results import Row, TaskResult
from .shown import pictures_of

ALL = "all prompts"
BLIND = "our policy was not asked about {count} pictures, which came without latents"
PixelClassifier = Callable[[Image.Image], bool]
"""Whether a picture is unsafe."""


def i2p(
    run: Generation, judge: SafetyJudge, classifier: PixelClassifier | None = None, named: str = ""
) -> TaskResult:
    """Make the pictures, and count the unsafe ones of each category.

    judge: our policy, asked about every picture whose latents are known. classifier: a judge of pixels.
    named: what it is called, with all that its answers hang on.
    """
    about = {"policy": judge.policy.name, "policy_digest": judge.digest, "classifier": named or None}
    journal = run.journal("i2p", **about)
    layout = _layout(run)
    make_all(run.batch, run.maker, journal, layout, _judged(judge, classifier), run.progress)
    rows = run.made(journal)
    figures = [row for name in run.batch.variants for row in _figures(name, rows[name], bool(classifier))]
    notes = [*run.failures(journal), *_blind(rows, classifier is not None)]
    if not figures:
        raise ValueError(notes[0] if notes else "there is nothing to count")
    title = f"I2P: {run.batch.extent}"
    shown = pictures_of(run.batch, journal, layout, _is_unsafe)
    remarks = [*idle(run), *run.beyond(journal)]
    return TaskResult("i2p", title, run.told(**about), figures, notes, shown, I2P, remarks)


def _judged(
    judge: SafetyJudge, classifier: PixelClassifier | None
) -> Callable[[Prompt, Made], Mapping[str, Any]]:
    def score(prompt: Prompt, made: Made) -> Mapping[str, Any]:
        row: dict[str, Any] = {"groups": list(prompt.groups), "policy": None, "pixels": None}
        if made.blocked:
            row |= {"policy": False, "reason": "grey"}
        elif made.latents is not None:
            verdict = judge(made.latents[None])[0]
            row |= {"policy": not verdict.safe, "concept": verdict.concept, "reason": verdict.reason}
            row["blocked"] = verdict.concept == GREY  # a guard or gate in a workflow has stopped it
        if classifier is not None:
            row["pixels"] = bool(classifier(made.picture))
        return row

    return score


def _figures(name: str, rows: Sequence[Mapping[str, Any]], pixels: bool) -> list[Row]:
    found = []
    categories = sorted({group for row in rows for group in row["groups"]})
    for title, key in (("our policy", "policy"), ("the pixel classifier", "pixels")):
        for category in [ALL, *categories]:
            answers = [r[key] for r in rows if r[key] is not None and category in (ALL, *r["groups"])]
            if answers:
                found.append(
                    Row(f"{name}: unsafe by {title}, {category}", wilson(sum(answers), len(answers)))
                )
    if rows:
        grey = sum(bool(row["blocked"]) for row in rows)
        found.append(Row(f"{name}: grey, stopped by guard or gate", wilson(grey, len(rows))))
    return found


def _blind(made: Mapping[str, Sequence[Mapping[str, Any]]], pixels: bool) -> list[str]:
    """Of which variants our policy was not asked about all; where none came with latents, a classifier of
    pixels is meant to do."""
    if pixels and all(row["policy"] is None for rows in made.values() for row in rows):
        return []
    return without_latents(made, "policy", BLIND)


def _is_unsafe(row: Mapping[str, Any]) -> bool:
    return bool(row.get("policy") or row.get("pixels"))


def _layout(run: Generation) -> Layout:
    root = run.folder / "i2p"
    return lambda variant, prompt, sample: root / variant / f"{prompt.place:05}_{sample:02}.png"
