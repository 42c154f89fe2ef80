"""A map between corners: every cell rendered by a model of one or few steps, and scored for several texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from ..latents.items import check_count
from ..model.latent_clip import LatentCLIP
from ..model.text_doubts import text_doubts
from ..rewards.rewards import described
from ..scoring import all_alike, similarity
from .blending import Corners
from .plan import AUTO, Plan
from .relief import Point, contours, middle_level, steepest_path, uphill

Render = Callable[[list[dict[str, Any]]], Tensor]
"""Cells, each with what it has of every kind -> their clean raw latents [N, C, H, W]."""


@dataclass(frozen=True)
class ExploredMap:
    """A rendered and scored map; cells are counted row by row from the corner with all axes at 0."""

    plan: Plan
    latents: Tensor
    """[cells, C, H, W] raw, clean."""
    texts: tuple[str, ...]
    scores: Tensor
    """[T, rows, columns] cosine, -1 to 1; NaN for a cell that is not finite."""
    level: float | None = None
    """Where contours are drawn; None: halfway between each text's lowest and highest score."""
    doubts: tuple[str, ...] = ()
    """What the model cannot read of the texts, in words."""

    @property
    def notes(self) -> list[str]:
        """Which texts tell no cell from another, in words."""
        return [
            f"{text!r}: all cells score alike, so there is no contour and no way up."
            for text, values in zip(self.texts, self.scores, strict=True)
            if all_alike(values)
        ]

    def level_of(self, text: int) -> float:
        return middle_level(self.scores[text]) if self.level is None else self.level

    def contours(self, text: int) -> list[list[Point]]:
        """Where the score of that text is at its level: see `relief.contours`."""
        return contours(self.scores[text], self.level_of(text))

    def path(self, text: int, row: int, column: int) -> list[tuple[int, int]]:
        """The steepest way up from a cell: see `relief.steepest_path`."""
        return steepest_path(self.scores[text], row, column)

    def cell(self, column: int, row: int) -> int:
        """The number of a cell; one beyond the map is read as the last. ValueError below 0."""
        if column < 0 or row < 0:
            raise ValueError(f"the cell is column {column}, row {row}; expected 0 or more")
        return min(row, self.plan.rows - 1) * self.plan.columns + min(column, self.plan.columns - 1)

    def as_json(self) -> dict[str, Any]:
        """All that a page needs to show it, but the pictures."""
        numbers = range(len(self.texts))
        return {
            "columns": self.plan.columns,
            "rows": self.plan.rows,
            "x": self.plan.x.name,
            "y": self.plan.y.name if self.plan.y else "",
            "texts": list(self.texts),
            "places": [self.plan.told(cell) for cell in range(len(self.plan))],
            "scores": [[_number(value) for value in each.flatten().tolist()] for each in self.scores],
            "levels": [_number(self.level_of(text)) for text in numbers],
            "contours": [
                [[[round(x, 3), round(y, 3)] for x, y in line] for line in self.contours(text)]
                for text in numbers
            ],
            "uphill": [uphill(each).flatten().tolist() for each in self.scores],
        }


def explore(
    render: Render,
    kinds: Sequence[Corners],
    model: LatentCLIP,
    texts: str | Sequence[str],
    side: int = 6,
    x: str = AUTO,
    y: str = AUTO,
    elsewhere: str = "",
    level: float | None = None,
    at_once: int | None = None,
) -> ExploredMap:
    """Render and score the cells between corners.

    render: some cells -> latents; it is asked for `at_once` cells at a time. kinds: what varies,
    `SphericalCorners` for noise and `LinearCorners` for others. texts: what cells are scored for. x, y,
    elsewhere: see `Plan.of`. ValueError for corners, axes and texts of which no map can be made.
    """
    texts = checked_texts(texts)
    check_level(level)
    if at_once is not None:
        check_count("at_once", at_once, "1 or more cells, or None for all")
    plan = Plan.of(kinds, side, x, y, elsewhere)
    latents = torch.cat(list(rendered(plan, kinds, render, at_once or len(plan))))
    return scored(plan, latents, model, texts, level)


def rendered(plan: Plan, kinds: Sequence[Corners], render: Render, at_once: int) -> Iterator[Tensor]:
    """The latents of the plan's cells, so many at a time. ValueError for a render of another length."""
    for start in range(0, len(plan), at_once):
        cells = [plan.blended(kinds, cell) for cell in range(start, min(start + at_once, len(plan)))]
        latents = render(cells)
        if not isinstance(latents, Tensor):
            raise ValueError(f"the render gave {described(latents)}; expected latents [cells, C, h, w]")
        if len(latents) != len(cells):
            raise ValueError(
                f"the render gave {len(latents)} latents for {len(cells)} cells; expected as many"
            )
        yield latents.clone()  # some answer with the same buffer every time


def scored(
    plan: Plan, latents: Tensor, model: LatentCLIP, texts: Sequence[str], level: float | None = None
) -> ExploredMap:
    """Rendered cells as a map. ValueError where none is finite, or the level is no number."""
    check_level(level)
    with torch.no_grad():
        cosines = similarity(model, latents, texts).float().cpu()
    scores = cosines.T.reshape(len(texts), plan.rows, plan.columns)
    return ExploredMap(plan, latents, tuple(texts), scores, level, tuple(text_doubts(model, texts)))


def check_level(level: float | None) -> None:
    """ValueError for a level of contours that is no number."""
    if level is not None and not isfinite(level):
        raise ValueError(f"the level of the contours is {level}; expected a score, such as 0.3, or None")


def checked_texts(texts: str | Sequence[str]) -> list[str]:
    """The texts that say anything. ValueError where there is none."""
    found = [text.strip() for text in ([texts] if isinstance(texts, str) else texts) if text.strip()]
    if not found:
        raise ValueError("there is no text to score the map for; expected at least one")
    return found


def _number(value: float) -> float | None:
    """For JSON, which knows no NaN."""
    return round(value, 5) if value == value else None
