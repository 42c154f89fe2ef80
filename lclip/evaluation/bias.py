"""How a generator fills what prompts leave open: shares of concepts over many pictures of each prompt.

Such shares say what a CLIP sees in pictures. They say nothing about persons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..choosing.questions import questions_of, targets_of
from ..choosing.shares import Shares, check_margin, check_target, shares_of
from ..data.texts import read_text
from ..rewards.rewards import shorten
from ..statistics import wilson
from .idle import idle
from .making import Generation, Layout, Made, make_all
from .prompts import Prompt
from .published import BIAS
from .questions import concept_chances
from .results import Row, TaskResult
from .shown import pictures_of


@dataclass(frozen=True)
class Asked:
    """What is told apart in every picture. targets: as for `lclip.shares`, one for each question."""

    questions: Sequence[Sequence[str]]
    targets: Sequence[Sequence[float] | None]
    margin: float = 0.1

    def settings(self) -> dict[str, Any]:
        """What a resumed run must agree with: what is kept of a picture. Target and margin come later."""
        return {"concepts": [list(names) for names in self.questions]}

    def told(self) -> dict[str, Any]:
        """All that the figures hang on."""
        target = [list(aims) if aims else "uniform" for aims in self.targets]
        return {**self.settings(), "target": target, "margin": self.margin}


def read_concepts(path: Path, target: str = "", margin: float = 0.1) -> Asked:
    """Questions from a file: one a line, concepts parted by |; or one concept a line, where there is no |.

    target: shares parted by |, for all questions. Raises FileNotFoundError, ValueError.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    check_margin(margin)
    text = read_text(path)
    try:
        questions = questions_of(text)
        targets = targets_of(target, len(questions))
        for names, aims in zip(questions, targets, strict=True):
            check_target(aims, len(names))
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise ValueError(f"a question names {twice!r} twice; expected distinct concepts")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Asked(questions, targets, margin)


def bias(run: Generation, asked: Asked) -> TaskResult:
    """Make the pictures, and count what they show: over all prompts, and prompt by prompt."""
    journal = run.journal("bias", **asked.settings())
    make_all(run.batch, run.maker, journal, _layout(run), _answers(run, asked), run.progress)
    rows, notes = [], []
    for variant, made in run.made(journal).items():
        rows += _figures(run, asked, variant, [row for row in made if row.get("chances")])
        notes += _notes(variant, run.rows(journal, variant))
    if not rows:
        raise ValueError(notes[0] if notes else "there is nothing to count")
    about = run.told(**asked.told())
    title = f"Shares of concepts: {run.batch.extent}"
    shown = pictures_of(run.batch, journal, _layout(run))
    return TaskResult("bias", title, about, rows, notes, shown, BIAS, [*idle(run), *run.beyond(journal)])


def _answers(run: Generation, asked: Asked) -> Callable[[Prompt, Made], Mapping[str, Any]]:
    """What is kept of a picture: the probability of every concept of every question."""
    with torch.inference_mode():
        chances_of = concept_chances(run.model, asked.questions)

    def answer(prompt: Prompt, made: Made) -> Mapping[str, Any]:
        if made.latents is None:
            return {"chances": None}
        with torch.inference_mode():
            found = chances_of(run.model.encode_latents(made.latents[None]))
        return {"chances": [each[0].tolist() for each in found]}

    return answer


def _figures(run: Generation, asked: Asked, variant: str, made: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Over all prompts, then for each where there are several."""
    rows = figures_of(asked, variant, [row["chances"] for row in made])
    if len(run.batch.prompts.prompts) > 1:
        for prompt in run.batch.prompts.prompts:
            own = [row["chances"] for row in made if row["prompt"] == prompt.place]
            rows += figures_of(asked, f"{variant}, {prompt.text}", own)
    return rows


def figures_of(asked: Asked, name: str, chances: Sequence[Sequence[Sequence[float]]]) -> list[Row]:
    """Shares among some pictures. chances: of each picture, of every question, of every concept."""
    rows = []
    for place, (names, aims) in enumerate(zip(asked.questions, asked.targets, strict=True)):
        table = torch.tensor([each[place] for each in chances], dtype=torch.float64)
        if len(table) and bool(torch.isfinite(table).all(1).any()):
            rows += _of_question(name, shares_of(table, names, aims, asked.margin))
    return rows


def _of_question(name: str, found: Shares) -> list[Row]:
    """Hard shares where any item is clear, soft shares, how many are unclear, the distance to the target."""
    rows = []
    if found.hard[0].n:
        rows += [
            Row(f"{name}: {concept}", hard) for concept, hard in zip(found.concepts, found.hard, strict=True)
        ]
    rows += [
        Row(f"{name}: {concept}, mean probability", soft)
        for concept, soft in zip(found.concepts, found.soft, strict=True)
    ]
    asked = shorten(" | ".join(found.concepts), 60)
    rows.append(Row(f"{name}: unclear, {asked}", wilson(found.unclear, found.items)))
    rows.append(Row(f"{name}: distance to the target, {asked}", found.distance_interval()))
    return rows


def _notes(variant: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    failed = [row for row in rows if row.get("error")]
    blind = [row for row in rows if not row.get("error") and not row.get("chances")]
    notes = []
    if failed:
        notes.append(f"{variant}: {len(failed)} pictures could not be made. The first: {failed[0]['error']}")
    if blind:
        notes.append(
            f"{variant}: {len(blind)} pictures came without latents, and are in no figure. Give the workflow "
            "a SaveLatent beside its SaveImage"
        )
    return notes


def _layout(run: Generation) -> Layout:
    root = run.folder / "bias"
    return lambda variant, prompt, sample: root / variant / f"{prompt.place:05}" / f"{sample:05}.png"
