"""What a race found, drawn with Pillow and in words. Knows nothing of the host."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

from . import charts
from .charts import BLUE, FAINT, INK, LABEL, MARGIN, REST, SMALL, WIDTH
from .lettering import fit_text
from .pen import Pen, Point
from .words import cautions, drawn, said

if TYPE_CHECKING:
    from ...lclip.choosing.types import RaceCheck, RaceResult

PLOT, TOP, LEFT, RIGHT, BOTTOM = 200, 44, 72, 30, 60
MOST_ITEMS = 4


def race_chart(result: RaceResult) -> Tensor:
    """Reward of every candidate at every check, one plot for each batch item. -> IMAGE [1, H, W, 3]"""
    items = min(MOST_ITEMS, len(result.checks[-1].rewards))
    pictures = [_plot(result, item) for item in range(items)]
    whole = Image.new("RGB", (WIDTH, sum(picture.height for picture in pictures)), charts.PAPER)
    for number, picture in enumerate(pictures):
        whole.paste(picture, (0, number * picture.height))
    return charts.as_image([whole])


def race_cautions(result: RaceResult) -> list[str]:
    """What is odd about a race, in words."""
    if len(result.checks) > 1:
        return result.notes
    text = (
        f"no check was made: none falls before step {result.checks[-1].steps}, the last one, so that all "
        "candidates ran to the end. Raise steps, or lower checks."
    )
    return [*result.notes, text]


def race_report(result: RaceResult) -> str:
    """The race in words: what was saved, who won, and every check."""
    cost = {"passes": result.passes, "all": result.passes_all, "saved": f"{result.saved:.0%}"}
    lines = [said("{passes} passes instead of {all}, {saved} saved", **cost)]
    batch = len(result.checks[-1].rewards)
    for number, (place, seed) in enumerate(zip(result.places, result.seeds, strict=True)):
        won = {"reward": f"{float(result.rewards[number]):.4f}", "place": str(place), "seed": str(seed)}
        won |= {"item": str(number % batch), "no": str(number // batch + 1)}
        lines.append(said("item {item}, no. {no}: {reward}, candidate {place}, seed {seed}", **won))
    for check in result.checks:
        at = {"step": check.step, "steps": check.steps}
        text = (
            "after step {step} of {steps}, item {item}: {field}"
            if check.step
            else "drafts, item {item}: {field}"
        )
        lines += [said(text, **at, item=i, field=_field(check, i)) for i in range(batch)]
    return "\n".join([*lines, *cautions(race_cautions(result))])


def checks_as_json(result: RaceResult) -> str:
    """Every check as JSON; rewards and kept are lists per item, of a value per candidate.

    A reward is null for who was out, and where it is no finite number.
    """
    from ...lclip.statistics import for_json

    checks = [
        {
            "step": check.step,
            "steps": check.steps,
            "rewards": for_json(check.rewards.tolist()),
            "kept": check.kept.tolist(),
        }
        for check in result.checks
    ]
    return json.dumps(checks, allow_nan=False)


def _field(check: RaceCheck, item: int) -> str:
    """Who was in, best first; who goes on has a star."""
    values = check.rewards[item].tolist()
    order = sorted((i for i in range(len(values)) if math.isfinite(values[i])), key=lambda i: -values[i])
    known = ", ".join(f"{i}{'*' * bool(check.kept[item, i])} {values[i]:.4f}" for i in order)
    return known or said("no number")


def _plot(result: RaceResult, item: int) -> Image.Image:
    pen = Pen(WIDTH, TOP + PLOT + BOTTOM, charts.PAPER)
    count = result.checks[-1].rewards.shape[1]
    heading = drawn("item {item}: {count} candidates, {saved} of the passes saved", item=item, count=count,
                    saved=f"{result.saved:.0%}")  # fmt: skip
    pen.text((MARGIN, 10), fit_text(heading, WIDTH - 2 * MARGIN, LABEL), LABEL, INK)
    known = [v for check in result.checks for v in check.rewards[item].tolist() if math.isfinite(v)] or [0.0]
    low, high = min(known), max(known)
    margin = 0.06 * (high - low) or 0.01
    low, high = low - margin, high + margin
    steps = result.checks[-1].steps

    def place(step: float, value: float) -> Point:
        x = LEFT + (WIDTH - LEFT - RIGHT) * step / max(steps, 1)
        return x, TOP + PLOT * (1 - (value - low) / (high - low))

    for value in charts.ticks(low, high, 5):
        pen.line([place(0, value), place(steps, value)], FAINT)
        pen.text((LEFT - 8, place(0, value)[1]), f"{value:.3g}", SMALL, INK, "rm")
    for check in result.checks:
        pen.text((place(check.step, low)[0], TOP + PLOT + 6), str(check.step), SMALL, INK, "ma")
    pen.text((WIDTH - RIGHT, TOP + PLOT + 30), drawn("reward after step; blue goes on"), SMALL, INK, "ra")
    _runs(pen, result, item, place)
    return pen.picture()


def _runs(pen: Pen, result: RaceResult, item: int, place: Callable[[float, float], Point]) -> None:
    for kept in (False, True):  # who goes on is drawn on top
        for number, check in enumerate(result.checks):
            for candidate, value in enumerate(check.rewards[item].tolist()):
                if bool(check.kept[item, candidate]) != kept or not math.isfinite(value):
                    continue
                at, colour = place(check.step, value), BLUE if kept else REST
                before = result.checks[number - 1] if number else check
                last = float(before.rewards[item, candidate])
                if number and math.isfinite(last):
                    pen.line([place(before.step, last), at], colour, 2)
                pen.disc(at, 4, colour)
