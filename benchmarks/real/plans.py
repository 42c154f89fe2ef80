"""What is encoded: crops of photographs, and drawings on grounds. The same every time.

A plan is a list of items in an order of which every beginning is a fair sample of all splits.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from .catalogue import Picture, unit_hash
from .packages import PHOTOGRAPH
from .reading import WHITE, PictureError, read_cutout, read_picture

SCALES = (0.6, 0.95)  # of a drawing's longer side, as a share of the picture's shorter one
WHITE_GROUND = "white"
GROUNDS = 0.2  # share of drawings that lie on a photograph
GROUND_PIXELS = 1_000_000  # of such a photograph at most: larger ones take longer to read than to encode


@dataclass(frozen=True)
class Item:
    """One picture to encode. id: the same in every space and size. path: of the source, in the cache.

    box: left, top and side of the square crop in the source's pixels, of a photograph; empty for a drawing.
    variant: the place, scale, flip and ground that a drawing has, as a seed. ground: path of the photograph
    behind a drawing, WHITE_GROUND, or "" for one plain colour.
    """

    id: str
    path: str
    split: str
    kind: str
    name: str
    keywords: tuple[str, ...]
    source: str
    held_out: bool
    box: tuple[int, ...] = ()
    variant: int = 0
    ground: str = ""

    def record(self) -> dict:
        """What is written beside the latents."""
        return asdict(self)


def photo_crops(pictures: Iterable[Picture], side: int, each: int, most: dict[str, int]) -> list[Item]:
    """Crops of `side` source pixels at random places, up to `each` a photograph, overlapping by 55 % at most.

    most: items by split. First one crop of every photograph, then second ones, and so on.
    """
    photographs = [p for p in pictures if p.kind == PHOTOGRAPH and p.short >= side]
    rounds = [crop for p in photographs for crop in enumerate(_boxes(p, side, each))]
    owners = [p for p in photographs for _ in _boxes(p, side, each)]
    order = sorted(zip(rounds, owners, strict=True), key=lambda x: (x[0][0], unit_hash(f"crop {x[1].id}")))
    left, items = dict(most), []
    for (number, box), picture in order:
        if left.get(picture.split, 0):
            left[picture.split] -= 1
            items.append(item_of(picture, f"{picture.id}-{side}-{number}", box=box))
    return interleaved(items)


def _boxes(picture: Picture, side: int, each: int) -> list[tuple[int, int, int]]:
    rng = random.Random(f"boxes {picture.id} {side}")
    boxes: list[tuple[int, int, int]] = []
    for _ in range(40 * each):
        left, top = rng.randint(0, picture.width - side), rng.randint(0, picture.height - side)
        if all(max(abs(left - x), abs(top - y)) >= 0.45 * side for x, y, _ in boxes):
            boxes.append((left, top, side))
    return boxes[:each]


def drawing_variants(pictures: Iterable[Picture], most: int) -> list[Item]:
    """Named drawings, each first once, then a second time with another place, scale and ground, and so on."""
    drawings = [p for p in pictures if p.named]
    grounds = small_photographs(pictures)
    items, variant = [], 0
    while len(items) < most and drawings:
        for picture in sorted(drawings, key=lambda p: unit_hash(f"variant {variant} {p.id}")):
            items.append(drawing_variant(picture, variant, grounds[picture.split]))
        variant += 1
    return items[:most]


def small_photographs(pictures: Iterable[Picture]) -> dict[str, list[Picture]]:
    """Photographs to lay drawings on, by split."""
    small = [p for p in pictures if p.kind == PHOTOGRAPH and p.width * p.height <= GROUND_PIXELS]
    return {split: [p for p in small if p.split == split] for split in ("train", "dev", "test")}


def on_white(picture: Picture, variant: int) -> Item:
    """A drawing in one of its places, scales and flips on white."""
    return item_of(picture, f"{picture.id}-{variant}", variant=variant, ground=WHITE_GROUND)


def drawing_variant(picture: Picture, variant: int, grounds: list[Picture]) -> Item:
    """A drawing in one of its places, scales, flips and grounds."""
    rng = random.Random(f"ground {variant} {picture.id}")
    ground = rng.choice(grounds).path if grounds and rng.random() < GROUNDS else ""
    return item_of(picture, f"{picture.id}-{variant}", variant=variant, ground=ground)


def item_of(picture: Picture, name: str, **more) -> Item:
    """A picture as an item of that id. more: where in it, or how it lies."""
    return Item(
        id=name,
        path=picture.path,
        split=picture.split,
        kind=picture.kind,
        name=picture.name,
        keywords=picture.keywords,
        source=picture.source,
        held_out=picture.held_out,
        **more,
    )


def interleaved(items: list[Item]) -> list[Item]:
    """Every split evenly spread over the list."""
    by_split: dict[str, list[Item]] = {}
    for item in items:
        by_split.setdefault(item.split, []).append(item)
    placed = [((i + 0.5) / len(group), item) for group in by_split.values() for i, item in enumerate(group)]
    return [item for _, item in sorted(placed, key=lambda x: (x[0], x[1].id))]


def render(item: Item, size: int | tuple[int, int], cache: Path) -> np.ndarray:
    """The item's picture, uint8 [height, width, 3]: a photograph's crop, antialiased, or a drawing.

    size: a square's side, or width and height. A drawing has the same share of the shorter side at every
    size. Raises PictureError.
    """
    size = (size, size) if isinstance(size, int) else size
    if item.box:
        left, top, side = item.box
        crop = read_picture(cache / item.path).crop((left, top, left + side, top + side))
        return np.asarray(crop.resize(size, Image.Resampling.BICUBIC))
    return np.asarray(_on_ground(item, size, cache))


def _on_ground(item: Item, size: tuple[int, int], cache: Path) -> Image.Image:
    rng = random.Random(f"place {item.variant} {item.id}")
    ground = _ground(item, rng, cache).resize(size, Image.Resampling.BICUBIC)
    drawing = read_cutout(cache / item.path)
    if rng.random() < 0.5:
        drawing = ImageOps.mirror(drawing)
    drawing = drawing.crop(drawing.getchannel("A").getbbox()) if drawing.mode == "RGBA" else drawing
    scale = rng.uniform(*SCALES) * min(size) / max(drawing.size)
    width, height = (max(1, round(side * scale)) for side in drawing.size)
    drawing = drawing.resize((width, height), Image.Resampling.BICUBIC)
    place = (round(rng.random() * (size[0] - width)), round(rng.random() * (size[1] - height)))
    ground.paste(drawing, place, drawing if drawing.mode == "RGBA" else None)
    return ground


def _ground(item: Item, rng: random.Random, cache: Path) -> Image.Image:
    """A photograph's crop, softened or not, or one plain colour, mostly light."""
    if item.ground == WHITE_GROUND:
        return Image.new("RGB", (1, 1), WHITE)
    if item.ground:
        try:
            return _softened(read_picture(cache / item.ground), rng)
        except PictureError:
            pass
    tone = rng.choice([(255, 255, 255), tuple(rng.randint(120, 255) for _ in range(3)), None])
    colour = tone or tuple(rng.randint(0, 255) for _ in range(3))
    return Image.new("RGB", (1, 1), colour)


def _softened(picture: Image.Image, rng: random.Random) -> Image.Image:
    side = round(min(picture.size) * rng.uniform(0.5, 1))
    left, top = (rng.randint(0, length - side) for length in picture.size)
    return picture.crop((left, top, left + side, top + side)).filter(
        ImageFilter.GaussianBlur(side / 128 * rng.choice([0, 1, 2, 4]))
    )
