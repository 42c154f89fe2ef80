"""Pictures of numbers, drawn with Pillow: IMAGE tensors [B, H, W, 3] in 0..1. Knows nothing of the host.

All are 512 pixels wide with letters of 16 and more, so that they can be read at the size of a node.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .lettering import fit_text, width_of, wrap_text
from .pen import Pen, Point
from .words import drawn

# Okabe and Ito's palette: told apart with any colour vision.
BLUE, ORANGE, GREEN, PINK, SKY, RED = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"
PAPER, INK, FAINT, REST = "#ffffff", "#1b1b1b", "#d5d8dc", "#9db4c6"
LINES = (BLUE, ORANGE, GREEN, PINK, SKY, RED, INK)

# From dark blue over green to yellow, lightness rising evenly: also readable in grey.
HEAT = torch.tensor(
    [[0.09, 0.06, 0.33], [0.13, 0.26, 0.53], [0.13, 0.47, 0.55], [0.32, 0.68, 0.41], [0.99, 0.91, 0.18]]
)

WIDTH, MARGIN, TITLE = 512, 14, 44
HEADING, LABEL, SMALL = 22, 18, 16  # sizes of letters
MOST_LINES = 4  # of one label


def as_image(pictures: Sequence[Image.Image]) -> Tensor:
    """Pillow pictures of one size -> [B, H, W, 3] in 0..1."""
    return torch.from_numpy(numpy.stack([numpy.asarray(p.convert("RGB")) for p in pictures])).float() / 255


def as_pictures(images: Tensor) -> list[Image.Image]:
    """[B, H, W, 3] in 0..1 -> Pillow pictures; what is no number is mid-grey."""
    known = torch.nan_to_num(images, nan=0.5).clamp(0, 1)
    return [Image.fromarray(p) for p in (known * 255).round().to(torch.uint8).cpu().numpy()]


def probability_bars(labels: Sequence[str], probabilities: Tensor, most: int = 20) -> Tensor:
    """One bar chart per item of how likely each label is, likeliest first. [B, L] -> [B, H, W, 3]"""
    shown = min(most, len(labels))
    # As wide as the longest label wants, but half of the picture at most: longer ones are broken into lines.
    column = min(max(width_of(label, LABEL) for label in labels), WIDTH / 2) + 1
    lines = [wrap_text(label, column, LABEL, MOST_LINES) for label in labels]
    row = 10 + 22 * max(map(len, lines))
    return as_image(
        [
            _bars(lines, column, row, values, shown, drawn("item {number}", number=i))
            for i, values in enumerate(probabilities.cpu())
        ]
    )


def _bars(
    labels: Sequence[list[str]], column: float, row: int, probabilities: Tensor, shown: int, title: str
) -> Image.Image:
    left = len(labels) - shown
    pen = Pen(WIDTH, TITLE + row * shown + (left > 0) * 30 + MARGIN, PAPER)
    start, end = MARGIN + column + 10, WIDTH - MARGIN - 66
    broken = bool(probabilities.isnan().any())
    probabilities = torch.nan_to_num(probabilities)
    order = probabilities.argsort(descending=True, stable=True).tolist()
    likeliest = "NaN" if broken else " ".join(labels[order[0]])
    heading = fit_text(f"{title}: {likeliest}", WIDTH - 2 * MARGIN, HEADING)
    pen.text((MARGIN, 10), heading, HEADING, INK)
    for place, index in enumerate(order[:shown]):
        middle, share = TITLE + row * (place + 0.5), float(probabilities[index])
        for number, words in enumerate(labels[index]):
            y = middle + 22 * (number - (len(labels[index]) - 1) / 2)
            pen.text((start - 10, y), words, LABEL, INK, "rm")
        pen.box((start, middle - 10), (end, middle + 10), outline=FAINT)
        pen.box((start, middle - 10), (start + (end - start) * share, middle + 10), REST if place else BLUE)
        pen.text((WIDTH - MARGIN, middle), "NaN" if broken else f"{share:.1%}", LABEL, INK, "rm")
    if left:
        rest = float(probabilities[order[shown:]].sum())
        text = drawn("and {left} more labels, {rest} together", left=left, rest=f"{rest:.1%}")
        pen.text((WIDTH - MARGIN, TITLE + row * shown + 6), text, SMALL, INK, "ra")
    return pen.picture()


def line(pen: Pen, points: Sequence[Point], number: int) -> None:
    """The number-th line of a chart: a colour of its own, and dashes once the colours are used up."""
    colour = LINES[number % len(LINES)]
    for stretch in [points] if number < len(LINES) else dashes(points, 9.0):
        pen.line(stretch, colour, 3)


def dashes(points: Sequence[Point], length: float) -> list[list[Point]]:
    """A line cut into pieces of that length, every other one left out; they go on around its corners."""
    pieces: list[list[Point]] = []
    done = 0.0
    for (x, y), (far_x, far_y) in zip(points, points[1:], strict=False):
        whole = math.hypot(far_x - x, far_y - y)
        at = 0.0
        while at < whole:
            to = min(at + length - done % length, whole)
            if int(done / length) % 2 == 0:
                ends = ((x + (far_x - x) * part / whole, y + (far_y - y) * part / whole) for part in (at, to))
                pieces.append(list(ends))
            # A corner may lie so near to the end of a piece that rounding would leave nothing to step over.
            step = max(to - at, 1e-3)
            at, done = at + step, done + step
    return pieces


def ticks(low: float, high: float, about: int, whole: bool = False) -> list[float]:
    """Round numbers between two values, about that many: steps of 1, 2 or 5 times a power of ten."""
    rough = max(high - low, 1e-9) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    step = max(step, 1.0) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [step * n for n in range(first, math.floor(high / step + 1e-9) + 1)]


def heat_colours(values: Tensor) -> Tensor:
    """Values in 0..1 of any shape -> colours [..., 3]."""
    table = HEAT.to(values)
    place = values.clamp(0, 1) * (len(table) - 1)
    low = place.floor().long().clamp(max=len(table) - 2)
    return torch.lerp(table[low], table[low + 1], (place - low)[..., None])


def heat_overlay(pictures: Tensor, heat: Tensor, strength: float = 0.6) -> Tensor:
    """Heat [B, H, W] in 0..1 over pictures [B, h, w, 3], which are enlarged to it. -> [B, H, W, 3]"""
    enlarged = F.interpolate(pictures.movedim(-1, 1), heat.shape[-2:], mode="bilinear", align_corners=False)
    return torch.lerp(enlarged.movedim(1, -1).clamp(0, 1), heat_colours(heat), strength)
