"""From a raw sample to tensors: latents, token ids, pictures. What cannot be used says why."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..data.files import parse_latents
from ..model.tokenizer import Tokenizer
from .shards import LABEL, LATENTS, PICTURES, TEXT, RawSample, first_line

logger = logging.getLogger("latent-clip")

SMALLEST_PICTURE = 16  # pixels a side; below lies no picture, and no VAE's factor is above


class Unusable(Exception):
    """A sample that is left out: a reason, under which it is counted, and the detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Decoder:
    """Turns raw samples into tensors of equal shapes.

    latents: [C, H, W] that stored latents must have; None where they are not read. tokenizer: of the texts;
    None where they are not read. pictures: a name and a side in pixels for each size that a picture is
    wanted in. labels: the classes as the data names them, where a sample's class is wanted.
    """

    latents: tuple[int, int, int] | None = None
    tokenizer: Tokenizer | None = None
    pictures: dict[str, int] = field(default_factory=dict)
    labels: tuple[str, ...] = ()

    def __call__(self, raw: RawSample) -> dict[str, Tensor]:
        """`latents` [C, H, W] float32, `ids` [L], `label` [], and each picture [3, side, side] uint8.

        Raises Unusable.
        """
        item: dict[str, Tensor] = {}
        if self.latents is not None:
            item["latents"] = read_latents(raw, self.latents)
        if self.tokenizer is not None:
            with _silent_about_length():
                item["ids"] = self.tokenizer.encode([read_text(raw)])[0]
        if self.labels:
            item["label"] = torch.tensor(read_label(raw, self.labels))
        if self.pictures:
            picture = read_picture(raw)
            item.update({name: square(picture, side) for name, side in self.pictures.items()})
        return item


def read_latents(raw: RawSample, shape: tuple[int, int, int]) -> Tensor:
    """The one latent of a sample, checked. Raises Unusable."""
    suffix = next((suffix for suffix in LATENTS if suffix in raw.fields), None)
    if suffix is None:
        raise Unusable("without latents")
    try:
        found = parse_latents(raw.read(suffix), f"{raw.key}.{suffix}")
    except (ValueError, OSError, MemoryError) as error:
        raise Unusable("unreadable latents", first_line(error)) from error
    if len(found) != 1 or found[0].shape != shape:
        got = [len(found), *found[0].shape]
        raise Unusable("latents of another shape", f"{got}; expected {[1, *shape]}")
    if not bool(torch.isfinite(found[0]).all()):
        raise Unusable("latents with NaN or infinity")
    return found[0]


def read_text(raw: RawSample) -> str:
    """The caption. Raises Unusable where there is none, or an empty one."""
    if TEXT not in raw.fields:
        raise Unusable("without text")
    try:
        text = raw.read(TEXT).decode("utf-8", "replace").strip()
    except OSError as error:
        raise Unusable("unreadable text", first_line(error)) from error
    if not text:
        raise Unusable("empty text")
    return text


def read_label(raw: RawSample, labels: tuple[str, ...]) -> int:
    """The class: an index or a label in a `cls` file, or the name of the folder. Raises Unusable."""
    if LABEL in raw.fields:
        said = raw.read(LABEL).decode("utf-8", "replace").strip()
    else:
        said = raw.key.replace("\\", "/").split("/")[-2] if "/" in raw.key.replace("\\", "/") else ""
    if said in labels:
        return labels.index(said)
    if said.isdecimal() and int(said) < len(labels):
        return int(said)
    raise Unusable("of no known class", repr(said[:60]))


def read_picture(raw: RawSample) -> Image.Image:
    """The picture, upright, in RGB. Raises Unusable."""
    suffix = next((suffix for suffix in PICTURES if suffix in raw.fields), None)
    if suffix is None:
        raise Unusable("without a picture")
    try:
        with Image.open(io.BytesIO(raw.read(suffix))) as file:
            picture = ImageOps.exif_transpose(file).convert("RGB")
    except Exception as error:  # Pillow raises whatever a malformed file leads to
        raise Unusable("unreadable picture", first_line(error)) from error
    if min(picture.size) < SMALLEST_PICTURE:
        raise Unusable("picture too small", f"{picture.width}x{picture.height}")
    return picture


def square(picture: Image.Image, side: int) -> Tensor:
    """The middle of a picture, resampled as CLIP's pictures are. -> [3, side, side] uint8"""
    if picture.size != (side, side):
        picture = ImageOps.fit(picture, (side, side), Image.Resampling.BICUBIC)
    data = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return data.view(side, side, 3).permute(2, 0, 1).contiguous()


@contextmanager
def _silent_about_length() -> Iterator[None]:
    """Captions from the web are often too long: no word about each of them."""
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
