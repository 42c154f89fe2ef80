"""Photographs through SDXL's TAESD at other sizes than the native one, and what they would be at it.

Sizes are those of models that read 64x64 cells, all at 3/8 of that: a native size of 24x24 cells. Per size,
raw latents:

    SIZE              SDXL's latents of the picture in that size
    SIZE native       of the same picture with its shorter side at the native size
    SIZE through      decoded, shrunk in pixels and encoded again: the way through pixels
    SIZE picture      which photograph it is of, [number]
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from lclip.adapters.bridge import resized

from . import catalogue
from .catalogue import Picture, unit_hash
from .crops import CELL, SMALL, Latents, made_once, pixels
from .packages import PHOTOGRAPH
from .reading import PictureError, read_picture
from .taesd import Taesd, load_taesd

NATIVE = SMALL // CELL
SIZES = {
    "1.25x": (30, 30),
    "1.5x": (36, 36),
    "2x": (48, 48),
    "3x": (72, 72),
    "832x1216": (57, 39),
    "1216x832": (39, 57),
    "1536x640": (30, 72),
}
"""Height and width in cells. The last three have names of width and height in pixels at the full scale."""
SHORTEST = max(min(size) for size in SIZES.values()) * CELL  # of a photograph: none is enlarged for a square


def native_of(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width in cells, once the shorter side has the native size."""
    height, width = (max(NATIVE, round(side * NATIVE / min(size))) for side in size)
    return height, width


def load_sized(cache: Path, split: str, most: int, say: Callable[[str], None] = print) -> Latents:
    """One picture of each of `most` photographs of a split, made once and kept in the cache.

    Raises FileNotFoundError without pictures, TinyMissing without TAESD.
    """

    def make() -> Latents:
        pictures = [p for p in catalogue.load(cache) if p.split == split]
        return make_sized(cache, pictures, most, say)

    return made_once(cache, f"sized-{split}-{most}", make)


@torch.inference_mode()
def make_sized(
    cache: Path, pictures: Sequence[Picture], most: int, say: Callable[[str], None] = print
) -> Latents:
    """See the module. FileNotFoundError where no photograph is large enough."""
    sdxl, rng = load_taesd("sdxl"), random.Random(0)
    large = [p for p in pictures if p.kind == PHOTOGRAPH and p.short >= SHORTEST]
    found: dict[str, list[Tensor]] = {}
    for number, picture in enumerate(sorted(large, key=lambda p: unit_hash(f"sized {p.id}"))[:most]):
        try:
            whole = read_picture(cache / picture.path)
        except PictureError:
            continue
        for title, size in SIZES.items():
            for name, z in _sized(sdxl, _cut(whole, size, rng), size).items():
                found.setdefault(title + name, []).append(z)
            found.setdefault(f"{title} picture", []).append(torch.tensor([float(number)]))
        say(f"{number + 1} of {min(most, len(large))} photographs in {len(SIZES)} sizes")
    if not found:
        raise FileNotFoundError(f"no photograph of {SHORTEST} px or more among {len(pictures)} pictures")
    return {name: torch.cat(parts) for name, parts in found.items()}


def _cut(picture: Image.Image, size: tuple[int, int], rng: random.Random) -> Image.Image:
    """The largest part of the picture of that shape, at a random place."""
    height, width = size
    factor = min(picture.width / width, picture.height / height)
    wide, high = factor * width, factor * height
    left, top = rng.uniform(0, picture.width - wide), rng.uniform(0, picture.height - high)
    return picture.resize(
        (width * CELL, height * CELL), Image.Resampling.LANCZOS, box=(left, top, left + wide, top + high)
    )


def _sized(sdxl: Taesd, picture: Image.Image, size: tuple[int, int]) -> Latents:
    height, width = (side * CELL for side in native_of(size))
    z = sdxl.encode(pixels(picture))
    return {
        "": z,
        " native": sdxl.encode(pixels(picture.resize((width, height), Image.Resampling.LANCZOS))),
        " through": sdxl.encode(resized(sdxl.decode(z), height, width)),
    }
