"""Line charts of a noise search: IMAGE tensors drawn with Pillow. Knows nothing of the host."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

from . import charts
from .charts import INK, SMALL, WIDTH
from .lettering import fit_text, wrap_text
from .pen import Pen, Point
from .words import drawn

if TYPE_CHECKING:
    from ...lclip.reno.types import ReNORecord

PLOT, LEFT, RIGHT, BOTTOM = 200, 72, 18, 52
LEGEND_ROW, MOST_IN_LEGEND = 26, 8


@dataclass(frozen=True)
class Panel:
    """One set of axes: lines by name over the number of the render, and where a new search starts."""

    title: str
    lines: dict[str, list[float]]
    starts: tuple[int, ...] = ()


def search_curves(histories: Sequence[Sequence[ReNORecord]], hacked: Sequence[int | None] = ()) -> Tensor:
    """Reward of every item per render; below it the parts and the held-out reward. -> IMAGE [1, H, W, 3]

    histories: of searches that cover consecutive batch items: one for the whole batch, or one per item.
    hacked: per item the render after which the held-out reward fell while the optimised one rose on, if any.
    """
    rewards = _per_item(histories, "reward", "item {number}")
    panels = [Panel(gain_title(rewards), rewards, _starts(histories[0]))]
    names = list(histories[0][0].parts)
    if len(names) > 1:
        lines = {name: _mean_part(histories, name) for name in names}
        panels.append(Panel(drawn("parts of the reward, mean over the batch"), lines))
    if histories[0][0].held_out is not None:
        lines = _per_item(histories, "held_out", "held-out, item {number}")
        falls = [
            drawn("falls in item {item} after render {at}", item=item, at=at)
            for item, at in enumerate(hacked)
            if at is not None
        ]
        what = ", ".join(falls) or drawn("watched, not optimised")
        panels.append(Panel(drawn("held-out reward: {what}", what=what), lines))
    return charts.as_image([_stacked([_draw(panel) for panel in panels])])


def gain_title(rewards: dict[str, list[float]]) -> str:
    """What the search gained: the reward of the first render, and the best."""
    first = [line[0] for line in rewards.values()]
    best = [max((v for v in line if math.isfinite(v)), default=math.nan) for line in rewards.values()]
    found = {"best": f"{sum(best) / len(best):.4f}", "first": f"{sum(first) / len(first):.4f}"}
    if len(first) == 1:
        return drawn("reward: {best} at best, {first} at first", **found)
    return drawn("mean reward: {best} at best, {first} at first", **found)


def _per_item(histories: Sequence[Sequence[ReNORecord]], name: str, label: str) -> dict[str, list[float]]:
    lines: list[list[float]] = []
    for history in histories:
        columns = zip(*(getattr(record, name).tolist() for record in history), strict=True)
        lines += [list(column) for column in columns]
    return {drawn(label, number=number): line for number, line in enumerate(lines)}


def _mean_part(histories: Sequence[Sequence[ReNORecord]], name: str) -> list[float]:
    longest = max(len(history) for history in histories)
    means = []
    for index in range(longest):
        values = [float(history[index].parts[name].mean()) for history in histories if index < len(history)]
        means.append(sum(values) / len(values))
    return means


def _starts(history: Sequence[ReNORecord]) -> tuple[int, ...]:
    places = [(record.phase, record.run) for record in history]
    return tuple(i for i in range(1, len(places)) if places[i] != places[i - 1])


def _draw(panel: Panel) -> Image.Image:
    title = wrap_text(panel.title, WIDTH - 2 * charts.MARGIN, charts.LABEL, 3)
    shown = list(panel.lines.items())[:MOST_IN_LEGEND]
    rows = _legend_rows([name for name, _ in shown], len(panel.lines)) if len(panel.lines) > 1 else []
    top = 22 + 24 * len(title)
    pen = Pen(WIDTH, top + PLOT + BOTTOM + LEGEND_ROW * len(rows) + 6, charts.PAPER)
    for number, text in enumerate(title):
        pen.text((charts.MARGIN, 10 + 24 * number), text, charts.LABEL, INK)
    finite = [value for line in panel.lines.values() for value in line if math.isfinite(value)]
    low, high = _range(finite)
    renders = max(len(line) for line in panel.lines.values())

    def place(index: float, value: float) -> Point:
        x = LEFT + (WIDTH - LEFT - RIGHT) * (index / (renders - 1) if renders > 1 else 0.5)
        return x, top + PLOT * (1 - (value - low) / (high - low))

    _axes(pen, low, high, renders, place)
    for start in panel.starts:
        pen.line([place(start, low), place(start, high)], charts.REST)
    for number, line in reversed(list(enumerate(panel.lines.values()))):
        _line(pen, [place(i, v) if math.isfinite(v) else None for i, v in enumerate(line)], number)
    _legend(pen, rows, top + PLOT + BOTTOM)
    return pen.picture()


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = 0.06 * (high - low) or max(abs(high) * 0.1, 0.01)
    return low - margin, high + margin


def _axes(pen: Pen, low: float, high: float, renders: int, place: Callable[[float, float], Point]) -> None:
    """Round numbers on both axes, with as many figures as their steps need."""
    values = charts.ticks(low, high, 6)
    figures = max(0, -math.floor(math.log10(values[1] - values[0]) + 1e-9)) if len(values) > 1 else 2
    left, right = place(0, low)[0] if renders > 1 else LEFT, WIDTH - RIGHT
    for value in values:
        y = place(0, value)[1]
        pen.line([(left, y), (right, y)], charts.FAINT)
        pen.text((LEFT - 8, y), f"{value:.{figures}f}", SMALL, INK, "rm")
    bottom = place(0, low)[1]
    pen.line([(left, bottom), (right, bottom)], charts.REST)
    for index in charts.ticks(0, renders - 1, 6, whole=True):
        pen.text((place(index, low)[0], bottom + 6), f"{index:.0f}", SMALL, INK, "ma")
    pen.text((right, bottom + 26), drawn("render"), SMALL, INK, "ra")


def _line(pen: Pen, points: Sequence[Point | None], number: int) -> None:
    """A line through the points; a missing one is a gap, and a lone one a dot."""
    stretch: list[Point] = []
    for point in [*points, None]:
        if point is not None:
            stretch.append(point)
        elif stretch:
            charts.line(pen, stretch, number)
            if len(stretch) == 1:
                pen.disc(stretch[0], 4, charts.LINES[number % len(charts.LINES)])
            stretch = []


def _legend_rows(names: Sequence[str], total: int) -> list[list[str]]:
    """Names in two columns, or one below the other where one of them is long."""
    names = (
        [*names[:-1], drawn("{name}, and {left} more", name=names[-1], left=total - len(names))]
        if total > len(names)
        else list(names)
    )
    columns = 2 if max(map(len, names)) <= 18 else 1
    return [names[start : start + columns] for start in range(0, len(names), columns)]


def _legend(pen: Pen, rows: Sequence[Sequence[str]], top: float) -> None:
    number = 0
    for row, names in enumerate(rows):
        column = (WIDTH - RIGHT - charts.MARGIN) / len(rows[0])
        for place, name in enumerate(names):
            x, y = charts.MARGIN + column * place, top + LEGEND_ROW * (row + 0.5)
            charts.line(pen, [(x, y), (x + 28, y)], number)
            pen.text((x + 36, y), fit_text(name, column - 46, SMALL), SMALL, INK, "lm")
            number += 1


def _stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    whole = Image.new("RGB", (WIDTH, sum(picture.height for picture in pictures)), charts.PAPER)
    top = 0
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height
    return whole
