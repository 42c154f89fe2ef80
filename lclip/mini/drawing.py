"""Drawing of mini-world scenes with Pillow: layout from a vector of factors, then antialiased shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from .scenes import (
    CANVAS,
    COLOURS,
    GROUNDS,
    SPLITS,
    Content,
    PlacedObject,
    Scene,
    check_split,
    random_content,
)

RGB = {
    "red": (214, 48, 40),
    "green": (52, 160, 60),
    "blue": (40, 90, 214),
    "yellow": (242, 200, 40),
    "purple": (142, 60, 178),
    "white": (238, 238, 236),
    "grey": (132, 132, 134),
    "black": (24, 24, 28),
}
LAYOUT_FACTORS = 7  # x and y of up to three objects and the direction of a row, each in 0..1
COLOUR_JITTER = 5
PALETTE_CONTRAST = 60.0  # smallest distance in RGB between an object and a ground of a random palette
SUPERSAMPLING = 4

# The centres that an object can have, by arrangement: places are half a latent cell apart, so that a VAE of
# a megabyte can learn every local pattern.
_LOW, _MIDDLE, _HIGH = (16, 20), (28, 32, 36), (44, 48)
SLOTS = {
    "single": ((_MIDDLE, _MIDDLE),),
    "horizontal": ((_LOW, _MIDDLE), (_HIGH, _MIDDLE)),
    "vertical": ((_MIDDLE, _LOW), (_MIDDLE, _HIGH)),
    "three": ((_LOW, _LOW), (_HIGH, _LOW), (_MIDDLE, _HIGH)),
}
RADII = {"small": 9.5, "large": 15.0, None: 11.0}


def sample_scenes(number: int, seed: int, split: str = "train") -> list[Scene]:
    """Draw `number` random scenes of a split ("train", "dev", "test", "all"); the same for the same seed."""
    check_split(split)
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    return [place(random_content(rng, split), rng) for _ in range(number)]


def place(content: Content, rng: np.random.Generator) -> Scene:
    """A scene of this (full) content with random layout."""
    return layout(content, rng.random(LAYOUT_FACTORS), rng)


def layout(content: Content, factors: np.ndarray, rng: np.random.Generator) -> Scene:
    """A scene of this content; `factors` [7] in 0..1 choose the places, `rng` only tints."""
    objects = []
    for index, (places_x, places_y) in enumerate(SLOTS[_arrangement(content, factors)]):
        which = index if content.kind == "pair" else 0
        if content.relation in ("right of", "below"):
            which = 1 - which
        colour, shape = content.colours[which], content.shapes[which]
        objects.append(
            PlacedObject(
                shape=str(shape),
                colour=str(colour),
                x=_pick(places_x, factors[2 * index]),
                y=_pick(places_y, factors[2 * index + 1]),
                radius=RADII[content.size],
                rgb=_tint(RGB[str(colour)], rng),
            )
        )
    return Scene(content, tuple(objects), _tint(RGB[str(content.ground)], rng))


def _arrangement(content: Content, factors: np.ndarray) -> str:
    if content.kind == "single":
        return "single"
    if content.kind == "pair":
        return "horizontal" if content.relation in ("left of", "right of") else "vertical"
    if content.count == 3:
        return "three"
    return "horizontal" if factors[-1] < 0.5 else "vertical"


def _pick(places: tuple[int, ...], factor: float) -> int:
    return places[min(int(factor * len(places)), len(places) - 1)]


def _tint(rgb: tuple[float, ...], rng: np.random.Generator) -> tuple[int, int, int]:
    jitter = rng.integers(-COLOUR_JITTER, COLOUR_JITTER + 1, size=3)
    red, green, blue = np.clip(np.array(rgb) + jitter, 0, 255).round().astype(int).tolist()
    return red, green, blue


def random_palette(rng: np.random.Generator) -> dict[str, tuple[int, int, int]]:
    """Another colour for each name: blends of two objects' or of two grounds' own, and no object too near a
    ground.
    """
    while True:
        objects, grounds = (_blends(names, rng) for names in (COLOURS, GROUNDS))
        distances = np.linalg.norm(objects[:, None] - grounds[None], axis=-1)
        if distances.min() > PALETTE_CONTRAST:
            blends = (*objects.tolist(), *grounds.tolist())
            return {name: _tint(blend, rng) for name, blend in zip((*COLOURS, *GROUNDS), blends, strict=True)}


def _blends(names: tuple[str, ...], rng: np.random.Generator) -> np.ndarray:
    own = np.array([RGB[name] for name in names], dtype=np.float32)
    first, second = own[rng.integers(len(own), size=(2, len(own)))]
    return first + rng.random((len(own), 1)) * (second - first)


def recolour(scene: Scene, palette: dict[str, tuple[int, int, int]]) -> Scene:
    """The scene in other colours, which have no name: its content no longer says any."""
    objects = tuple(replace(item, rgb=palette[item.colour]) for item in scene.objects)
    content = replace(scene.content, colours=(None,) * len(scene.content.colours), ground=None)
    return Scene(content, objects, palette[str(scene.content.ground)])


def render(scene: Scene, width: int = CANVAS, height: int = CANVAS) -> np.ndarray:
    """Draw a scene as uint8 [height, width, 3]; other sizes stretch positions and scale radii alike."""
    scale_x, scale_y = width / CANVAS, height / CANVAS
    scale = min(scale_x, scale_y)
    picture = np.full((height, width, 3), scene.ground_rgb, dtype=np.float32)
    for item in scene.objects:
        centre = (item.x * scale_x, item.y * scale_y)
        alpha = shape_mask(item.shape, centre, item.radius * scale, (width, height))
        picture += alpha[..., None] * (np.array(item.rgb, dtype=np.float32) - picture)
    return np.round(picture).astype(np.uint8)


def render_batch(scenes: Iterable[Scene]) -> np.ndarray:
    """Draw scenes as uint8 [N, 64, 64, 3]."""
    return np.stack([render(scene) for scene in scenes])


def shape_mask(shape: str, centre: tuple[float, float], radius: float, size: tuple[int, int]) -> np.ndarray:
    """Coverage 0..1 as float32 [height, width] of one shape; centre, radius and size in pixels."""
    from PIL import Image, ImageDraw

    factor = SUPERSAMPLING
    canvas = Image.new("L", (size[0] * factor, size[1] * factor))
    pen = _Pen(ImageDraw.Draw(canvas), centre, radius, factor)
    _DRAWERS[shape](pen)
    return np.asarray(canvas.reduce(factor), dtype=np.float32) / 255.0


class _Pen:
    """Draws in units of the radius around the centre, y up."""

    def __init__(self, draw, centre: tuple[float, float], radius: float, factor: int):
        self.draw, self.centre, self.radius, self.factor = draw, centre, radius, factor

    def point(self, x: float, y: float) -> tuple[float, float]:
        return (
            (self.centre[0] + x * self.radius) * self.factor,
            (self.centre[1] - y * self.radius) * self.factor,
        )

    def polygon(self, points: list[tuple[float, float]], fill: int = 255) -> None:
        self.draw.polygon([self.point(x, y) for x, y in points], fill=fill)

    def disc(self, x: float, y: float, radius: float, fill: int = 255) -> None:
        centre_x, centre_y = self.point(x, y)
        extent = radius * self.radius * self.factor
        self.draw.ellipse((centre_x - extent, centre_y - extent, centre_x + extent, centre_y + extent), fill)

    def box(self, left: float, bottom: float, right: float, top: float, fill: int = 255) -> None:
        self.polygon([(left, bottom), (right, bottom), (right, top), (left, top)], fill)


def _ngon(corners: int, radii: tuple[float, ...], start: float = 90.0) -> list[tuple[float, float]]:
    angles = [math.radians(start + 360.0 * index / corners) for index in range(corners)]
    return [
        (radii[index % len(radii)] * math.cos(angle), radii[index % len(radii)] * math.sin(angle))
        for index, angle in enumerate(angles)
    ]


def _circle(pen: _Pen) -> None:
    pen.disc(0, 0, 0.92)


def _square(pen: _Pen) -> None:
    pen.box(-0.84, -0.84, 0.84, 0.84)


def _triangle(pen: _Pen) -> None:
    pen.polygon([(0, 1.0), (-1.0, -0.78), (1.0, -0.78)])


def _cross(pen: _Pen) -> None:
    pen.box(-0.34, -1.0, 0.34, 1.0)
    pen.box(-1.0, -0.34, 1.0, 0.34)


def _star(pen: _Pen) -> None:
    pen.polygon(_ngon(10, (1.12, 0.46)))


def _ring(pen: _Pen) -> None:
    pen.disc(0, 0, 1.0)
    pen.disc(0, 0, 0.52, fill=0)


def _mushroom(pen: _Pen) -> None:
    pen.disc(0, 0.18, 0.86)
    pen.box(-0.46, -1.0, 0.46, 0.0)


def _skull(pen: _Pen) -> None:
    _mushroom(pen)
    for side in (-1, 1):
        pen.disc(0.38 * side, 0.12, 0.28, fill=0)


_DRAWERS = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
    "star": _star,
    "ring": _ring,
    "mushroom": _mushroom,
    "skull": _skull,
}
