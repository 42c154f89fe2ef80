"""Line charts of a noise search: IMAGE tensors drawn with Pillow. Knows nothing of the host."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw
from torch import Tensor

from ..lclip.reno_types import ReNORecord
from . import charts

COLOURS = (charts.BLUE, charts.ORANGE, charts.GREEN, charts.PINK, charts.SKY, charts.RED)
WIDTH, PLOT, LEFT, RIGHT, TOP, BOTTOM = 720, 220, 76, 20, 44, 40
LEGEND_ROW, MOST_IN_LEGEND = 24, 8


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
    panels = [Panel("reward per render", _per_item(histories, "reward", "item"), _starts(histories[0]))]
    names = list(histories[0][0].parts)
    if len(names) > 1:
        lines = {name: _mean_part(histories, name) for name in names}
        panels.append(Panel("parts of the reward, mean over the batch", lines))
    if histories[0][0].held_out is not None:
        lines = _per_item(histories, "held_out", "held-out, item")
        falls = [
            f"falls in item {item} after render {at}" for item, at in enumerate(hacked) if at is not None
        ]
        panels.append(Panel(f"held-out reward: {', '.join(falls) or 'watched, not optimised'}", lines))
    return charts.as_image([_stacked([_draw(panel) for panel in panels])])


def _per_item(histories: Sequence[Sequence[ReNORecord]], name: str, label: str) -> dict[str, list[float]]:
    lines: list[list[float]] = []
    for history in histories:
        columns = zip(*(getattr(record, name).tolist() for record in history), strict=True)
        lines += [list(column) for column in columns]
    return {f"{label} {number}": line for number, line in enumerate(lines)}


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
    shown = list(panel.lines.items())[:MOST_IN_LEGEND]
    height = TOP + PLOT + BOTTOM + LEGEND_ROW * math.ceil(len(shown) / 2) + 12
    picture = Image.new("RGB", (WIDTH, height), charts.PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((16, 12), charts.fit_text(panel.title, WIDTH - 32, 18), charts.INK, charts.font(18))
    finite = [value for line in panel.lines.values() for value in line if math.isfinite(value)]
    low, high = _range(finite)
    renders = max(len(line) for line in panel.lines.values())

    def place(index: int, value: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * (index / (renders - 1) if renders > 1 else 0.5)
        return x, TOP + PLOT * (1 - (value - low) / (high - low))

    _axes(draw, low, high, renders, place)
    for start in panel.starts:
        x = place(start, low)[0]
        draw.line((x, TOP, x, TOP + PLOT), charts.REST, 1)
    for number, line in reversed(list(enumerate(panel.lines.values()))):
        _line(draw, [place(i, v) if math.isfinite(v) else None for i, v in enumerate(line)], number)
    _legend(draw, [name for name, _ in shown], len(panel.lines), TOP + PLOT + BOTTOM)
    return picture


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = 0.06 * (high - low) or max(abs(high) * 0.1, 0.01)
    return low - margin, high + margin


def _axes(draw: ImageDraw.ImageDraw, low: float, high: float, renders: int, place) -> None:
    figures = max(0, min(6, 1 - math.floor(math.log10((high - low) / 4))))
    for step in range(5):
        value = low + (high - low) * step / 4
        y = place(0, value)[1]
        draw.line((LEFT, y, WIDTH - RIGHT, y), charts.FAINT, 1)
        draw.text((LEFT - 8, y), f"{value:.{figures}f}", charts.INK, charts.font(14), "rm")
    for index in sorted({round((renders - 1) * step / 5) for step in range(6)}):
        draw.text((place(index, low)[0], TOP + PLOT + 6), str(index), charts.INK, charts.font(14), "ma")
    draw.text((WIDTH - RIGHT, TOP + PLOT + 22), "render", charts.INK, charts.font(13), "ra")


def _line(draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float] | None], number: int) -> None:
    """A line through the points; a missing one is a gap, and a lone one a dot."""
    colour, stretch = COLOURS[number % len(COLOURS)], []
    for point in [*points, None]:
        if point is not None:
            stretch.append(point)
        elif stretch:
            draw.line(stretch, colour, 3, joint="curve")
            if len(stretch) == 1:
                draw.circle(stretch[0], 4, fill=colour)
            stretch = []


def _legend(draw: ImageDraw.ImageDraw, names: Sequence[str], total: int, top: float) -> None:
    column = (WIDTH - LEFT - RIGHT) / 2
    for number, name in enumerate(names):
        x, y = LEFT + column * (number % 2), top + LEGEND_ROW * (number // 2) + 10
        draw.line((x, y, x + 26, y), COLOURS[number % len(COLOURS)], 4)
        if number == len(names) - 1 and total > len(names):
            name = f"{name}, and {total - len(names)} more"
        draw.text((x + 34, y), charts.fit_text(name, column - 44, 15), charts.INK, charts.font(15), "lm")


def _stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    whole = Image.new("RGB", (WIDTH, sum(picture.height for picture in pictures)), charts.PAPER)
    top = 0
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height
    return whole
