"""Pictures to train an adapter on: from a folder or a batch, cut to what both VAEs can encode."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .folders import walk

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger("latent-clip")

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"))


def find_pictures(folder: str | os.PathLike[str]) -> list[Path]:
    """All pictures in a folder and below, by name, those behind links too.

    Raises FileNotFoundError, and ValueError for none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    found = sorted(walk([folder], lambda name: Path(name).suffix.lower() in SUFFIXES))
    if not found:
        raise ValueError(f"{folder} holds no pictures; expected files such as {', '.join(sorted(SUFFIXES))}")
    return found


def as_rgb(file: Image.Image) -> Image.Image:
    """A picture as it is seen: upright, its first frame, transparency laid on white, 16 bits brought to 8.

    Pillow's own conversion shows whatever colour hides under transparency, and makes 16 bits white.
    """
    from PIL import Image, ImageOps

    picture = in_eight_bits(ImageOps.exif_transpose(file))
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture.convert("RGB")
    cutout = picture.convert("RGBA")
    seen = Image.new("RGB", cutout.size, "white")
    seen.paste(cutout, mask=cutout.getchannel("A"))
    return seen


def read_rgb(file: Path | bytes) -> Image.Image:
    """A picture file, or what it holds, as `as_rgb` gives it. ValueError for what no format is of.

    Of a malformed file Pillow raises whatever it leads to.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as opened:
            return as_rgb(opened)
    except UnidentifiedImageError as error:  # its own text shows an object's address
        raise ValueError("it has no format of pictures that Pillow knows") from error


def in_eight_bits(picture: Image.Image) -> Image.Image:
    """A picture of 16 or 32 bits a value as grey of 8 bits, another as it is. Floats are in 0..1."""
    from PIL import Image

    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture, dtype=np.float64) * (255 if picture.mode == "F" else 1 / 257)
    return Image.fromarray(np.nan_to_num(values).round().clip(0, 255).astype(np.uint8))


def load_picture(path: Path, side: int, smallest: int = 1) -> Tensor:
    """The middle square of a picture, resampled to that side: [3, side, side] in 0..1.

    ValueError for a file that is no picture, or one with a side of less than `smallest` pixels.
    """
    try:
        picture = read_rgb(path)
    except Exception as error:  # Pillow raises whatever a malformed file leads to
        raise ValueError(f"{path.name} is no picture that can be read: {error}") from error
    if min(picture.size) < smallest:
        raise ValueError(
            f"{path.name} is {picture.width}x{picture.height} pixels; expected at least {smallest} a side"
        )
    return middle_square(picture, side)


def middle_square(image: Image.Image, side: int) -> Tensor:
    """The middle square of a Pillow image in RGB, resampled to that side: [3, side, side] in 0..1."""
    from PIL import Image, ImageOps

    picture = ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(picture, dtype=np.float32).transpose(2, 0, 1) / 255)


def each_picture(paths: list[Path], side: int, smallest: int = 1) -> Iterator[Tensor]:
    """The pictures one by one, [3, side, side]; what cannot be read is left out, with a warning."""
    for path in paths:
        try:
            yield load_picture(path, side, smallest)
        except ValueError as error:
            logger.warning("Left out: %s", error)


def in_batches(pictures: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Pictures of one size, so many at a time: [B, 3, H, W]."""
    waiting: list[Tensor] = []
    for picture in pictures:
        waiting.append(picture)
        if len(waiting) == size:
            yield torch.stack(waiting)
            waiting = []
    if waiting:
        yield torch.stack(waiting)


def whole_cells(pictures: Tensor, multiple: int) -> Tensor:
    """The middle of pictures [N, 3, H, W], with sides that are multiples. ValueError for smaller ones."""
    height, width = pictures.shape[-2:]
    if min(height, width) < multiple:
        raise ValueError(
            f"the pictures are {width}x{height} pixels; expected at least {multiple}x{multiple}, one latent "
            "cell of both VAEs"
        )
    rows, columns = height // multiple * multiple, width // multiple * multiple
    top, left = (height - rows) // 2, (width - columns) // 2
    return pictures[..., top : top + rows, left : left + columns]
