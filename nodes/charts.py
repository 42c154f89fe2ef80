"""Pictures of numbers, drawn with Pillow: IMAGE tensors [B, H, W, 3] in 0..1. Knows nothing of the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

# Okabe and Ito's palette: told apart with any colour vision.
BLUE, ORANGE, GREEN, PINK, SKY, RED = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"
PAPER, INK, FAINT, REST = "#ffffff", "#1b1b1b", "#d5d8dc", "#9db4c6"

# From dark blue over green to yellow, lightness rising evenly: also readable in grey.
HEAT = torch.tensor(
    [[0.09, 0.06, 0.33], [0.13, 0.26, 0.53], [0.13, 0.47, 0.55], [0.32, 0.68, 0.41], [0.99, 0.91, 0.18]]
)

WIDTH, MARGIN, ROW, TITLE = 640, 16, 30, 40


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def as_image(pictures: Sequence[Image.Image]) -> Tensor:
    """Pillow pictures of one size -> [B, H, W, 3] in 0..1."""
    return torch.from_numpy(numpy.stack([numpy.asarray(p.convert("RGB")) for p in pictures])).float() / 255


def probability_bars(labels: Sequence[str], probabilities: Tensor, most: int = 12) -> Tensor:
    """One bar chart per item of how likely each label is, likeliest first. [B, L] -> [B, H, W, 3]"""
    shown = min(most, len(labels))
    labels = list(labels)
    return as_image([_bars(labels, row, shown, f"item {i}") for i, row in enumerate(probabilities.cpu())])


def _bars(labels: list[str], probabilities: Tensor, shown: int, title: str) -> Image.Image:
    left = len(labels) - shown
    height = TITLE + ROW * (shown + (left > 0)) + MARGIN
    picture = Image.new("RGB", (WIDTH, height), PAPER)
    draw = ImageDraw.Draw(picture)
    start, end = 220, WIDTH - 76
    order = probabilities.argsort(descending=True, stable=True)[:shown].tolist()
    title = fit_text(f"{title}: {labels[order[0]]}", WIDTH - 2 * MARGIN, 18)
    draw.text((MARGIN, 10), title, fill=INK, font=font(18))
    for place, index in enumerate(order):
        top, share = TITLE + ROW * place, float(probabilities[index])
        middle = top + ROW // 2
        draw.text((start - 10, middle), fit_text(labels[index], start - MARGIN - 10, 16), INK, font(16), "rm")
        draw.rectangle((start, top + 5, end, top + ROW - 5), fill=None, outline=FAINT)
        bar = (start, top + 5, start + (end - start) * share, top + ROW - 5)
        draw.rectangle(bar, fill=REST if place else BLUE)
        draw.text((WIDTH - MARGIN, middle), f"{share:.1%}", INK, font(16), "rm")
    if left:
        rest = 1 - float(probabilities.topk(shown).values.sum())
        draw.text(
            (start, TITLE + ROW * shown + 6),
            f"and {left} more labels, {max(rest, 0):.1%} together",
            INK,
            font(14),
        )
    return picture


def fit_text(text: str, width: float, size: int) -> str:
    """Cut a text with an ellipsis where it would be wider than that many pixels."""
    text = " ".join(text.split())
    measure = font(size)
    if measure.getlength(text) <= width:
        return text
    while text and measure.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


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
