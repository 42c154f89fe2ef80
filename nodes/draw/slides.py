"""Where the pictures of a series came to on their axis, drawn with Pillow and in words. Knows nothing of the
host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from . import charts
from .charts import FAINT, INK, LABEL, LINES, MARGIN, REST, SMALL, WIDTH
from .lettering import fit_text
from .pen import Pen, Point
from .words import cautions, drawn, said

if TYPE_CHECKING:
    from ...lclip.choosing.slide_types import SlideResult

PLOT, TOP, LEFT, RIGHT, BOTTOM = 220, 76, 72, 30, 62
MOST_ITEMS = len(LINES)


def slide_chart(result: SlideResult, name: str) -> Tensor:
    """Measured position over the one asked for, a line for each item; on the grey one both are the same."""
    pen = Pen(WIDTH, TOP + PLOT + BOTTOM, charts.PAPER)
    asked, measured = _relative(result, result.targets), _relative(result, result.positions)
    pen.text((MARGIN, 10), fit_text(name, WIDTH - 2 * MARGIN, LABEL), LABEL, INK)
    ends = {"low": f"{asked[0][0]:+.2f}", "high": f"{asked[-1][0]:+.2f}", "reach": _reach(measured)}
    reach = drawn("asked {low} to {high}, came to {reach}", **ends)
    pen.text((MARGIN, 40), fit_text(reach, WIDTH - 2 * MARGIN, SMALL), SMALL, INK)
    place = _axes(pen, asked, measured)
    pen.line([place(end, end) for end in (asked[0][0], asked[-1][0])], REST, 2)
    for item in range(min(MOST_ITEMS, len(asked[0]))):
        points = [place(a[item], m[item]) for a, m in zip(asked, measured, strict=True)]
        charts.line(pen, points, item)
        for point in points:
            pen.disc(point, 4, LINES[item])
    return charts.as_image([pen.picture()])


def _axes(pen: Pen, asked: list[list[float]], measured: list[list[float]]) -> Callable[[float, float], Point]:
    left, right = asked[0][0], asked[-1][0]
    known = [value for row in (*asked, *measured) for value in row]
    low, high = min(known), max(known)
    margin = 0.06 * (high - low)
    low, high = low - margin, high + margin

    def place(x: float, y: float) -> Point:
        across = LEFT + (WIDTH - LEFT - RIGHT) * (x - left) / (right - left)
        return across, TOP + PLOT * (1 - (y - low) / (high - low))

    for value in charts.ticks(low, high, 6):
        pen.line([place(left, value), place(right, value)], FAINT)
        pen.text((LEFT - 8, place(left, value)[1]), f"{value:.3g}", SMALL, INK, "rm")
    for value in charts.ticks(left, right, 6):
        pen.text((place(value, low)[0], TOP + PLOT + 6), f"{value:.3g}", SMALL, INK, "ma")
    pen.text((WIDTH - RIGHT, TOP + PLOT + 32), drawn("measured over asked, from the start"), SMALL, INK, "ra")
    return place


def slide_report(result: SlideResult) -> str:
    """Every picture in words: where it should have come to, where it is, and how much of the rest it kept."""
    batch = len(result.start)
    lines = [
        said("item {item}: the start is at {start}", item=item, start=f"{float(result.start[item]):+.3f}")
        for item in range(batch)
    ]
    for index in range(len(result.positions)):
        for item in range(batch):
            asked, found = (
                float(each[index, item] - result.start[item]) for each in (result.targets, result.positions)
            )
            lines.append(
                said(
                    "item {item}, picture {picture}: asked {asked}, measured {found} from start, rest {kept}",
                    item=item,
                    picture=index + 1,
                    asked=f"{asked:+.3f}",
                    found=f"{found:+.3f}",
                    kept=f"{float(result.kept[index, item]):.3f}",
                )  # fmt: skip
            )
    return "\n".join([*lines, *cautions(result.notes)])


def _relative(result: SlideResult, values: Tensor) -> list[list[float]]:
    return (values - result.start).nan_to_num().tolist()


def _reach(measured: Sequence[Sequence[float]]) -> str:
    values = [value for row in measured for value in row]
    return drawn("{low} to {high}", low=f"{min(values):+.2f}", high=f"{max(values):+.2f}")
