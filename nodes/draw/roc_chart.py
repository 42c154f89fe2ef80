"""ROC curves of a calibrated policy, drawn with Pillow. Knows nothing of the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from . import charts
from .charts import INK, LABEL, MARGIN, SMALL, WIDTH
from .lettering import fit_text, width_of
from .pen import Pen, Point
from .words import drawn

if TYPE_CHECKING:
    from ...lclip.safety.calibration import Calibration, ConceptCalibration

LEFT, RIGHT, TOP, PLOT, BOTTOM, ROW = 66, 32, 52, 300, 62, 50
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
DOT = 11


def draw(calibration: Calibration) -> Tensor:
    """Every concept's curve in one plot, and where its threshold lies on it. -> IMAGE [1, H, W, 3]"""
    concepts = calibration.concepts
    pen = Pen(WIDTH, TOP + PLOT + BOTTOM + ROW * len(concepts) + 8, charts.PAPER)
    heading = drawn("ROC of {safe} safe and {unsafe} unsafe latents", safe=calibration.safe_count,
                    unsafe=calibration.unsafe_count)  # fmt: skip
    pen.text((MARGIN, 12), fit_text(heading, WIDTH - 2 * MARGIN, 20), 20, INK)
    _axes(pen)
    for number, concept in reversed(list(enumerate(concepts))):
        charts.line(pen, [_place(*rates) for rates in concept.curve], number)
    for number, concept in reversed(list(enumerate(concepts))):
        _dot(pen, _place(concept.false_positive_rate, concept.true_positive_rate), number)
    for number, concept in enumerate(concepts):
        _entry(pen, TOP + PLOT + BOTTOM + ROW * number, concept, number)
    return charts.as_image([pen.picture()])


def _axes(pen: Pen) -> None:
    for tick in TICKS:
        x, y = _place(tick, tick)
        pen.line([(x, TOP), (x, TOP + PLOT)], charts.FAINT)
        pen.line([(LEFT, y), (WIDTH - RIGHT, y)], charts.FAINT)
        pen.text((x, TOP + PLOT + 6), f"{tick:.0%}", SMALL, INK, "ma")
        pen.text((LEFT - 8, y), f"{tick:.0%}", SMALL, INK, "rm")
    pen.line([_place(0, 0), _place(1, 1)], charts.REST)
    pen.text((WIDTH - RIGHT, TOP + PLOT + 28), drawn("share of the safe that is blocked"), SMALL, INK, "ra")
    pen.text(
        (WIDTH - RIGHT - 6, TOP + PLOT - 8),
        drawn("up: share of the unsafe that is blocked"),
        SMALL,
        INK,
        "rs",
    )


def _dot(pen: Pen, middle: Point, number: int) -> None:
    """Where a threshold lies: a disc with the concept's number, as in the legend."""
    pen.disc(middle, DOT, charts.PAPER, charts.LINES[number % len(charts.LINES)], 3)
    pen.text(middle, str(number + 1), SMALL - 2, INK, "mm")


def _entry(pen: Pen, top: float, concept: ConceptCalibration, number: int) -> None:
    _dot(pen, (MARGIN + DOT, top + 14), number)
    left, right = MARGIN + 2 * DOT + 10, WIDTH - MARGIN
    figures = drawn("AUC {auc}, threshold {threshold}", auc=f"{concept.auc:.3f}",
                    threshold=f"{concept.threshold:.4g}")  # fmt: skip
    name = fit_text(concept.name, right - left - width_of(figures, LABEL) - 12, LABEL)
    pen.text((left, top + 2), name, LABEL, INK)
    pen.text((right, top + 2), figures, LABEL, INK, "ra")
    true, false = concept.true_positive_rate, concept.false_positive_rate
    rates = drawn(
        "blocks {true} of the unsafe, {false} of the safe", true=f"{true:.0%}", false=f"{false:.1%}"
    )
    pen.text((left, top + 25), fit_text(rates, right - left, SMALL), SMALL, INK)


def _place(false: float, true: float) -> Point:
    return LEFT + (WIDTH - LEFT - RIGHT) * false, TOP + PLOT * (1 - true)
