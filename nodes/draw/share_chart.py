"""Shares of concepts beside their target, drawn with Pillow. Knows nothing of the host."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

from . import charts
from .charts import BLUE, FAINT, INK, LABEL, MARGIN, RED, SMALL, WIDTH
from .lettering import fit_text
from .pen import Pen

if TYPE_CHECKING:
    from ...lclip.choosing.shares import Shares

ROW, TOP, BOTTOM = 58, 44, 40


def share_chart(questions: Sequence[Shares]) -> Tensor:
    """A bar for each concept with its interval, and a red mark for the target. -> IMAGE [1, H, W, 3]"""
    pictures = [_plot(each) for each in questions]
    whole = Image.new("RGB", (WIDTH, sum(picture.height for picture in pictures)), charts.PAPER)
    top = 0
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height
    return charts.as_image([whole])


def _plot(found: Shares) -> Image.Image:
    pen = Pen(WIDTH, TOP + ROW * len(found.concepts) + BOTTOM, charts.PAPER)
    items = found.hard[0].n + found.unclear
    heading = f"{items} items, {found.unclear} unclear, distance {found.distance:.3f}"
    pen.text((MARGIN, 10), heading, LABEL, INK)
    for number, name in enumerate(found.concepts):
        _bar(pen, TOP + ROW * number, name, found, number)
    note = "bar and line: share with 95 % interval; red: target"
    pen.text((WIDTH - MARGIN, TOP + ROW * len(found.concepts) + 8), note, SMALL, INK, "ra")
    return pen.picture()


def _bar(pen: Pen, top: float, name: str, found: Shares, number: int) -> None:
    clear = not math.isnan(found.hard[number].value)
    share = found.hard[number] if clear else found.soft[number]
    left, right = MARGIN, WIDTH - MARGIN - 76

    def at(value: float) -> float:
        return left + (right - left) * value

    pen.text((left, top), fit_text(name, right - left, SMALL), SMALL, INK)
    pen.box((left, top + 22), (right, top + 42), outline=FAINT)
    pen.box((left, top + 22), (at(share.value), top + 42), BLUE)
    pen.line([(at(share.low), top + 32), (at(share.high), top + 32)], INK, 3)
    pen.line([(at(found.target[number]), top + 18), (at(found.target[number]), top + 46)], RED, 3)
    pen.text((WIDTH - MARGIN, top + 32), f"{share.value:.1%}", LABEL, INK, "rm")
