"""`python media/draw.py`: the icon and the banner that the registry shows, drawn with Pillow.

A picture of the mini world as latents see it (8 x 8 cells), in the brackets of what was chosen.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from lclip.mini.drawing import RADII, RGB, render  # noqa: E402
from lclip.mini.scenes import CANVAS, Content, PlacedObject, Scene  # noqa: E402

BACK, PALE, DIM, CHOSEN = (22, 25, 34), (240, 242, 246), (150, 158, 174), (86, 180, 233)
CELLS = 8
FINE = 4  # drawn larger by this and reduced, for smooth edges


def scene(shape: str, colour: str, ground: str = "white") -> Scene:
    """One large object in the middle."""
    centre = CANVAS // 2
    item = PlacedObject(shape, colour, centre, centre, RADII["large"] * 1.35, RGB[colour])
    return Scene(Content("single", (shape,), (colour,), ground), (item,), RGB[ground])


def picture(what: Scene, side: int) -> Image.Image:
    return Image.fromarray(render(what, side, side))


def cells(what: Scene, side: int, gap: float = 0.05) -> Image.Image:
    """The picture as the mean colours of its 8 x 8 cells, a little apart."""
    means = np.asarray(picture(what, 256).resize((CELLS, CELLS), Image.Resampling.BOX))
    tile = Image.new("RGB", (side, side), BACK)
    pen, cell = ImageDraw.Draw(tile), side / CELLS
    for row in range(CELLS):
        for column in range(CELLS):
            box = [(place + edge) * cell for edge in (gap, 1 - gap) for place in (column, row)]
            pen.rounded_rectangle(box, cell * 0.16, fill=tuple(int(value) for value in means[row, column]))
    return tile


def brackets(pen: ImageDraw.ImageDraw, box: Sequence[int], width: int) -> None:
    """The four corners of a frame."""
    left, top, right, bottom = box
    arm = (right - left) // 4
    for x, towards_x in ((left, 1), (right, -1)):
        for y, towards_y in ((top, 1), (bottom, -1)):
            corner = [(x + towards_x * arm, y), (x, y), (x, y + towards_y * arm)]
            pen.line(corner, fill=CHOSEN, width=width, joint="curve")
            for end in corner:
                pen.circle(end, width / 2 - 1, fill=CHOSEN)


def icon(side: int = 400) -> Image.Image:
    big = side * FINE
    image = Image.new("RGBA", (big, big), (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle((0, 0, big - 1, big - 1), big * 0.18, fill=BACK)
    inner = round(big * 0.6)
    at = (big - inner) // 2
    image.paste(cells(scene("ring", "yellow", "blue"), inner), (at, at))
    room = round(big * 0.08)
    low, high = at - room, big - at + room
    brackets(pen, (low, low, high, high), round(big * 0.035))
    return image.resize((side, side), Image.Resampling.LANCZOS)


CANDIDATES = (("circle", "red"), ("ring", "purple"), ("star", "red"), ("star", "blue"), ("square", "green"))
BEST = 2


def banner(width: int = 1680, height: int = 720) -> Image.Image:
    image = Image.new("RGB", (width, height), BACK)
    pen = ImageDraw.Draw(image)
    text(pen, (90, 96), "Latent-CLIP", 116, PALE)
    text(pen, (94, 238), "Score, choose, improve and gate pictures", 46, PALE)
    text(pen, (94, 300), "while they are still latents.", 46, PALE)
    side, gap, left, top = 160, 36, 96, 440
    for index, (shape, colour) in enumerate(CANDIDATES):
        x = left + index * (side + gap)
        tile = cells(scene(shape, colour), side * FINE).resize((side, side), Image.Resampling.LANCZOS)
        if index != BEST:
            tile = Image.blend(tile, Image.new("RGB", tile.size, BACK), 0.55)
        image.paste(tile, (x, top))
    x, room = left + BEST * (side + gap), 14
    frame = Image.new("RGBA", (width * FINE, height * FINE), (0, 0, 0, 0))
    box = (x - room, top - room, x + side + room, top + side + room)
    brackets(ImageDraw.Draw(frame), [value * FINE for value in box], 7 * FINE)
    frame = frame.resize((width, height), Image.Resampling.LANCZOS)
    image.paste(frame, mask=frame)
    large, right = 400, width - 90
    arrow(image, left + 5 * (side + gap) - 8, top + side // 2, right - large - 30)
    image.paste(picture(scene(*CANDIDATES[BEST]), large), (right - large, (height - large) // 2 + 60))
    text(pen, (94, 632), "8 x 8 cells each: nothing is decoded", 32, DIM)
    text(pen, (right - large, 176), "the one you decode", 32, DIM)
    return image


def arrow(image: Image.Image, left: int, y: int, right: int) -> None:
    pen = ImageDraw.Draw(image)
    pen.line((left, y, right - 12, y), fill=CHOSEN, width=8)
    pen.polygon([(right, y), (right - 26, y - 17), (right - 26, y + 17)], fill=CHOSEN)


def text(pen: ImageDraw.ImageDraw, at: tuple[int, int], words: str, size: int, colour: tuple) -> None:
    pen.text(at, words, fill=colour, font=ImageFont.load_default(size))


if __name__ == "__main__":
    icon().save(HERE / "icon.png", optimize=True)
    banner().save(HERE / "banner.png", optimize=True)
