"""Shares of concepts beside their target, drawn with Pillow. Knows nothing of the host."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

from . import charts
from .charts import BLUE, FAINT, GREEN, INK, LABEL, MARGIN, RED, REST, SMALL, WIDTH
from .lettering import fit_text
from .pen import Pen
from .words import drawn

if TYPE_CHECKING:
    from ...lclip.choosing.balance import Balance
    from ...lclip.choosing.shares import Shares

ROW, TRIPLE, TOP, BOTTOM = 58, 88, 44, 40


def share_chart(questions: Sequence[Shares]) -> Tensor:
    """A bar for each concept with its interval, and a red mark for the target. -> IMAGE [1, H, W, 3]"""
    pictures = [_plot(each) for each in questions]
    whole = Image.new("RGB", (WIDTH, sum(picture.height for picture in pictures)), charts.PAPER)
    top = 0
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height
    return charts.as_image([whole])


def balance_chart(found: Balance) -> Tensor:
    """Three bars for each concept: what was seen, what is chosen, what is wanted. -> IMAGE [1, H, W, 3]"""
    steps = len(found.concepts)
    pen = Pen(WIDTH, TOP + TRIPLE * steps + BOTTOM, charts.PAPER)
    heading = drawn(
        "{chosen} of {count} chosen, distance {before} before, {after} chosen", chosen=len(found.chosen),
        count=len(found.seen), before=_number(found.before), after=_number(found.after),
    )  # fmt: skip
    pen.text((MARGIN, 10), heading, LABEL, INK)
    chosen = [found.seen[item] for item in found.chosen]
    clear = [place for place in found.seen if place >= 0]
    for place, name in enumerate(found.concepts):
        top = TOP + TRIPLE * place
        pen.text((MARGIN, top), fit_text(name, WIDTH - 2 * MARGIN, SMALL), SMALL, INK)
        kinds = (
            (clear, REST, drawn("seen")),
            (chosen, BLUE, drawn("chosen")),
            (found.wanted, GREEN, drawn("wanted")),
        )
        for line, (of, colour, word) in enumerate(kinds):
            _count(pen, top + 22 + 18 * line, of.count(place), len(of), colour, word)
        mark = _along(found.target[place])
        pen.line([(mark, top + 20), (mark, top + 22 + 18 * len(kinds))], RED, 3)
    note = drawn("wanted: of the whole batch, by steering; red: target")
    pen.text((WIDTH - MARGIN, TOP + TRIPLE * steps + 8), note, SMALL, INK, "ra")
    return charts.as_image([pen.picture()])


def _count(pen: Pen, top: float, count: int, whole: int, colour: str, word: str) -> None:
    """One thin bar with its count."""
    pen.box((_along(0), top), (_along(1), top + 15), outline=FAINT)
    if count:
        pen.box((_along(0), top), (_along(count / whole), top + 15), colour)
    pen.text((WIDTH - MARGIN, top + 7), f"{count} {word}", SMALL, INK, "rm")


def _along(share: float) -> float:
    """Where a share ends on a bar of the balance chart."""
    return MARGIN + (WIDTH - 2 * MARGIN - 108) * share


def _number(value: float) -> str:
    return drawn("none") if math.isnan(value) else f"{value:.3f}"


def _plot(found: Shares) -> Image.Image:
    pen = Pen(WIDTH, TOP + ROW * len(found.concepts) + BOTTOM, charts.PAPER)
    heading = drawn("{items} items, {unclear} unclear, distance {distance}", items=found.items,
                    unclear=found.unclear, distance=f"{found.distance:.3f}")  # fmt: skip
    pen.text((MARGIN, 10), heading, LABEL, INK)
    for number, name in enumerate(found.concepts):
        _bar(pen, TOP + ROW * number, name, found, number)
    note = drawn("bar and line: share with 95 % interval; red: target")
    note += drawn("; green: corrected") if found.corrected else ""
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
    if found.corrected:
        right_place = at(found.corrected[number])
        pen.line([(right_place, top + 18), (right_place, top + 46)], GREEN, 3)
    pen.text((WIDTH - MARGIN, top + 32), f"{share.value:.1%}", LABEL, INK, "rm")
