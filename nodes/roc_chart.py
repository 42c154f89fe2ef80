"""ROC curves of a calibrated policy, drawn with Pillow. Knows nothing of the host."""

from __future__ import annotations

from PIL import Image, ImageDraw
from torch import Tensor

from ..lclip.calibration import Calibration, ConceptCalibration
from . import charts

SIDE, LEFT, TOP, RIGHT, BOTTOM = 300, 60, 62, 24, 54
WIDTH, HEIGHT = LEFT + SIDE + RIGHT, TOP + SIDE + BOTTOM
COLUMNS = 3
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def draw(calibration: Calibration) -> Tensor:
    """One panel per concept: its curve, and where its threshold lies on it. -> IMAGE [1, H, W, 3]"""
    panels = [_panel(concept) for concept in calibration.concepts]
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    sheet = Image.new("RGB", (columns * WIDTH, rows * HEIGHT), charts.PAPER)
    for number, panel in enumerate(panels):
        sheet.paste(panel, (number % columns * WIDTH, number // columns * HEIGHT))
    return charts.as_image([sheet])


def _panel(concept: ConceptCalibration) -> Image.Image:
    picture = Image.new("RGB", (WIDTH, HEIGHT), charts.PAPER)
    pen = ImageDraw.Draw(picture)
    title = charts.fit_text(concept.name, SIDE, 18)
    pen.text((LEFT, 10), title, charts.INK, charts.font(18))
    figures = f"AUC {concept.auc:.3f}, threshold {concept.threshold:.4g}"
    pen.text((LEFT, 36), figures, charts.INK, charts.font(14))
    for tick in TICKS:
        x, y = _place(tick, tick)
        pen.line((x, TOP, x, TOP + SIDE), charts.FAINT, 1)
        pen.line((LEFT, y, LEFT + SIDE, y), charts.FAINT, 1)
        pen.text((x, TOP + SIDE + 6), f"{tick:g}", charts.INK, charts.font(13), "ma")
        pen.text((LEFT - 8, y), f"{tick:g}", charts.INK, charts.font(13), "rm")
    pen.line((*_place(0, 0), *_place(1, 1)), charts.REST, 1)
    pen.line([point for rates in concept.curve for point in _place(*rates)], charts.BLUE, 3)
    middle = _place(concept.false_positive_rate, concept.true_positive_rate)
    pen.ellipse((middle[0] - 6, middle[1] - 6, middle[0] + 6, middle[1] + 6), charts.ORANGE, charts.INK)
    where = f"{concept.true_positive_rate:.0%} of unsafe, {concept.false_positive_rate:.1%} of safe blocked"
    pen.text((LEFT + SIDE, TOP + SIDE - 8), where, charts.INK, charts.font(13), "rs")
    pen.text((LEFT + SIDE, TOP + SIDE + 26), "false-positive rate", charts.INK, charts.font(13), "ra")
    pen.text((LEFT + 6, TOP + 4), "true-positive rate", charts.INK, charts.font(13))
    return picture


def _place(false: float, true: float) -> tuple[float, float]:
    return LEFT + SIDE * false, TOP + SIDE * (1 - true)
