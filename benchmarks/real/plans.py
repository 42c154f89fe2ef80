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
from .reading import PictureError, read_cutout, read_picture

GROUND_SIDE = 256


@dataclass(frozen=True)
class Item:
    """One picture to encode. id: the same in every space and size. path: of the source, in the cache.

    box: left, top and side of the square crop in the source's pixels, of a photograph; empty for a drawing.
    variant: the place, scale, flip and ground that a drawing has, as a seed. ground: path of the photograph
    behind a drawing, or "".
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
            items.append(_item(picture, f"{picture.id}-{side}-{number}", box=box))
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
    grounds = {
        s: [p for p in pictures if p.kind == PHOTOGRAPH and p.split == s] for s in ("train", "dev", "test")
    }
    items, variant = [], 0
    while len(items) < most and drawings:
        for picture in sorted(drawings, key=lambda p: unit_hash(f"variant {variant} {p.id}")):
            rng = random.Random(f"ground {variant} {picture.id}")
            choice = grounds[picture.split]
            ground = rng.choice(choice).path if choice and rng.random() < 0.4 else ""
            name = f"{picture.id}-{variant}"
            items.append(_item(picture, name, variant=variant, ground=ground))
        variant += 1
    return items[:most]


def _item(picture: Picture, name: str, **more) -> Item:
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


def render(item: Item, size: int, cache: Path) -> np.ndarray:
    """The item's picture, uint8 [size, size, 3]: a photograph's crop, antialiased, or a drawing.

    Raises PictureError.
    """
    if item.box:
        left, top, side = item.box
        crop = read_picture(cache / item.path).crop((left, top, left + side, top + side))
        return np.asarray(crop.resize((size, size), Image.Resampling.BICUBIC))
    return np.asarray(_on_ground(item, cache).resize((size, size), Image.Resampling.BICUBIC))


def _on_ground(item: Item, cache: Path) -> Image.Image:
    rng = random.Random(f"place {item.variant} {item.id}")
    ground = _ground(item, rng, cache)
    drawing = read_cutout(cache / item.path)
    if rng.random() < 0.5:
        drawing = ImageOps.mirror(drawing)
    drawing = drawing.crop(drawing.getchannel("A").getbbox()) if drawing.mode == "RGBA" else drawing
    scale = rng.uniform(0.4, 0.95) * GROUND_SIDE / max(drawing.size)
    size = tuple(max(1, round(side * scale)) for side in drawing.size)
    drawing = drawing.resize((size[0], size[1]), Image.Resampling.BICUBIC)
    place = tuple(rng.randint(0, GROUND_SIDE - side) for side in size)
    ground.paste(drawing, (place[0], place[1]), drawing if drawing.mode == "RGBA" else None)
    return ground


def _ground(item: Item, rng: random.Random, cache: Path) -> Image.Image:
    """A photograph's crop, softened or not, or one plain colour, mostly light."""
    if item.ground:
        try:
            picture = read_picture(cache / item.ground)
        except PictureError:
            picture = None
        if picture is not None:
            side = rng.randint(GROUND_SIDE, max(GROUND_SIDE, min(picture.size) - 1))
            left, top = (rng.randint(0, max(0, length - side)) for length in picture.size)
            crop = picture.crop((left, top, left + side, top + side)).resize((GROUND_SIDE, GROUND_SIDE))
            return crop.filter(ImageFilter.GaussianBlur(rng.choice([0, 1, 2, 4])))
    tone = rng.choice([(255, 255, 255), tuple(rng.randint(120, 255) for _ in range(3)), None])
    colour = tone or tuple(rng.randint(0, 255) for _ in range(3))
    return Image.new("RGB", (GROUND_SIDE, GROUND_SIDE), colour)
