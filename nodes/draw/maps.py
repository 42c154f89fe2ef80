"""Maps between corners, drawn with Pillow: pictures, and over them heat, contour and the steepest way up.
Knows nothing of the host."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from ...lclip.exploring.page import sheet
from . import charts
from .charts import INK, LABEL, MARGIN, ORANGE, PAPER, SMALL, TITLE, WIDTH
from .lettering import fit_text
from .pen import Pen, Point
from .words import drawn, own, said

if TYPE_CHECKING:
    from ...lclip.exploring.explore import ExploredMap

FIELD = WIDTH - 2 * MARGIN
FOOT, STRENGTH = 30, 0.6
MOST_PANELS = 9
MAP_WORDS = (
    "the pictures",
    "show",
    "which text's score is shown as heat",
    "contour",
    "way up",
    "hold this place",
    "Keep this cell's place for the axes that are not shown, then choose two others",
    "map of {columns} by {rows} cells; {x} to the right, {y} down",
    "map of {columns} cells; {x} to the right",
    "column {column}, row {row}",
    "Chosen.",
    "white line: {level}",
    "nowhere {level}",
    "no number",
    "Caution: {text}",
)
"""What `map.js` says."""


def map_words() -> dict[str, str]:
    """What `map.js` says, by the English words, in the reader's language."""
    return {english: own(english) for english in MAP_WORDS}


def map_chart(found: ExploredMap, pictures: Tensor, cell: int) -> Tensor:
    """The cells as they are, then a panel for each text. pictures: [cells, 3, H, W] in 0..1; cell: the chosen
    one, framed. -> IMAGE [1, H, W, 3]"""
    plain = sheet(pictures, found.plan.columns)
    panels = [
        _panel(found, plain, cell, text) for text in (None, *range(min(len(found.texts), MOST_PANELS - 1)))
    ]
    columns = math.ceil(len(panels) ** 0.5)
    size = WIDTH * columns, panels[0].height * math.ceil(len(panels) / columns)
    whole = Image.new("RGB", size, PAPER)
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        whole.paste(panel, (column * WIDTH, row * panel.height))
    return charts.as_image([whole])


def map_report(found: ExploredMap, cell: int) -> str:
    """The chosen cell and every text's best, in words."""
    row, column = divmod(cell, found.plan.columns)
    lines = [
        said("column {column}, row {row}", column=column, row=row),
        said("at {place}", place=found.plan.told(cell)),
    ]
    for text, values in zip(found.texts, found.scores.flatten(1), strict=True):
        known = torch.where(values.isnan(), -torch.inf, values)
        best = int(known.argmax())
        below, across = divmod(best, found.plan.columns)
        here = {"text": text, "score": f"{float(values[cell]):.4f}", "best": f"{float(values[best]):.4f}"}
        where = {"column": across, "row": below}
        lines.append(said("{text}: {score}; best {best} at column {column}, row {row}", **here, **where))
    return "\n".join(lines)


def _panel(found: ExploredMap, plain: Image.Image, chosen: int, text: int | None) -> Image.Image:
    plan = found.plan
    scale = FIELD / max(plain.size)
    size = max(1, round(plain.width * scale)), max(1, round(plain.height * scale))
    pen = Pen(WIDTH, TITLE + size[1] + FOOT, PAPER)
    heading = drawn("the pictures") if text is None else found.texts[text]
    pen.text((MARGIN, 10), fit_text(heading, FIELD, LABEL), LABEL, INK)
    pen.paste(plain if text is None else _heated(found, plain, text), (MARGIN, TITLE), size)
    step = size[0] / plan.columns, size[1] / plan.rows

    def at(x: float, y: float) -> Point:
        return MARGIN + (x + 0.5) * step[0], TITLE + (y + 0.5) * step[1]

    row, column = divmod(chosen, plan.columns)
    if text is not None:
        for line in found.contours(text):
            _line(pen, [at(*point) for point in line], PAPER)
        _line(pen, [at(x, y) for y, x in found.path(text, row, column)], ORANGE)
    corners = at(column - 0.5, row - 0.5), at(column + 0.5, row + 0.5)
    pen.box(*corners, outline=INK, width=5)
    pen.box(*corners, outline=ORANGE, width=3)
    pen.text((MARGIN, TITLE + size[1] + 6), fit_text(_foot(found, text), FIELD, SMALL), SMALL, INK)
    return pen.picture()


def _foot(found: ExploredMap, text: int | None) -> str:
    if text is None:
        if not found.plan.y:
            return drawn("to the right {right}", right=found.plan.x.name)
        return drawn("to the right {right}, down {down}", right=found.plan.x.name, down=found.plan.y.name)
    known = found.scores[text][found.scores[text].isfinite()]
    if not known.numel():
        return drawn("no number")
    values = {"low": f"{float(known.min()):.3f}", "high": f"{float(known.max()):.3f}"}
    values["level"] = f"{found.level_of(text):.3f}"
    if found.contours(text):
        return drawn("{low} to {high}, white at {level}", **values)
    return drawn("{low} to {high}, nowhere {level}", **values)


def _heated(found: ExploredMap, plain: Image.Image, text: int) -> Image.Image:
    """The pictures with each cell in the colour of its score; cells without a number stay as they are."""
    values = found.scores[text]
    known = values[values.isfinite()]
    if not known.numel():
        return plain
    low, high = float(known.min()), float(known.max())
    colours = charts.heat_colours(((values - low) / ((high - low) or 1.0)).nan_to_num())
    tile = plain.height // found.plan.rows, plain.width // found.plan.columns
    wide = [each.repeat_interleave(tile[0], 0).repeat_interleave(tile[1], 1) for each in (colours, values)]
    image = charts.as_image([plain])[0]
    mixed = torch.lerp(image, wide[0], STRENGTH)
    return charts.as_pictures(torch.where(wide[1].isfinite()[..., None], mixed, image)[None])[0]


def _line(pen: Pen, points: list[Point], colour: str) -> None:
    if len(points) > 1:
        pen.line(points, INK, 5)
        pen.line(points, colour, 3)
