"""Drawing with Pillow, smooth: lines and letters are drawn twice as large and then made smaller."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from .lettering import lettered

Point = tuple[float, float]
FINE = 2


class Pen:
    """A sheet of paper of that many pixels, and what draws on it."""

    def __init__(self, width: int, height: int, paper: str) -> None:
        self.sheet = Image.new("RGB", (width * FINE, height * FINE), paper)
        self.draw = ImageDraw.Draw(self.sheet)

    def picture(self) -> Image.Image:
        """The finished picture at its own size."""
        return self.sheet.reduce(FINE)

    def text(self, place: Point, text: str, size: int, colour: str, anchor: str = "la") -> None:
        """A line of text; anchor as in Pillow."""
        drawn, found = lettered(text, size * FINE)
        self.draw.text(_fine(place), drawn, colour, found, anchor)

    def line(self, points: Sequence[Point], colour: str, width: int = 1) -> None:
        self.draw.line([_fine(point) for point in points], colour, width * FINE, joint="curve")

    def box(
        self, corner: Point, far: Point, fill: str | None = None, outline: str | None = None, width: int = 1
    ):
        """A rectangle from one corner to the other, filled or outlined or both."""
        self.draw.rectangle((_fine(corner), _fine(far)), fill, outline, width * FINE)

    def disc(
        self, middle: Point, radius: float, fill: str, outline: str | None = None, width: int = 1
    ) -> None:
        (x, y), r = _fine(middle), radius * FINE
        self.draw.ellipse((x - r, y - r, x + r, y + r), fill, outline, width * FINE)

    def paste(self, picture: Image.Image, corner: Point, size: tuple[int, int]) -> None:
        """A picture, brought to that size."""
        scaled = picture.resize((size[0] * FINE, size[1] * FINE), Image.Resampling.BICUBIC)
        self.sheet.paste(scaled, (round(corner[0] * FINE), round(corner[1] * FINE)))


def _fine(point: Point) -> Point:
    return point[0] * FINE, point[1] * FINE
