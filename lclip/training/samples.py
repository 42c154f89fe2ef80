"""From a raw sample to tensors: latents, token ids, pictures. What cannot be used says why."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..data.items import caption, one_line
from ..data.pictures import read_rgb
from ..data.samples import LABEL, Sample, Unusable
from ..model.tokenizer import Tokenizer

logger = logging.getLogger("latent-clip")

SMALLEST_PICTURE = 16  # pixels a side; below lies no picture, and no VAE's factor is above


@dataclass(frozen=True)
class Decoder:
    """Turns raw samples into tensors of equal shapes.

    latents: [C, H, W] that stored latents must have; None where they are not read. tokenizer: of the texts;
    None where they are not read. pictures: a name and a side in pixels for each size that a picture is
    wanted in. labels: the classes as the data names them, where a sample's class is wanted. latent_key: which
    member of a sample is its latents, where it holds several.
    """

    latents: tuple[int, int, int] | None = None
    tokenizer: Tokenizer | None = None
    pictures: dict[str, int] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    latent_key: str | None = None

    def __call__(self, raw: Sample) -> dict[str, Tensor]:
        """`latents` [C, H, W] float32, `ids` [L], `label` [], and each picture [3, side, side] uint8.

        Raises Unusable.
        """
        item: dict[str, Tensor] = {}
        if self.latents is not None:
            item["latents"] = read_latents(raw, self.latents, self.latent_key)
        if self.tokenizer is not None:
            with _silent_about_length():
                item["ids"] = self.tokenizer.encode([read_text(raw)])[0]
        if self.labels:
            item["label"] = torch.tensor(read_label(raw, self.labels))
        if self.pictures:
            picture = read_picture(raw)
            item.update({name: square(picture, side) for name, side in self.pictures.items()})
        return item


def read_latents(raw: Sample, shape: tuple[int, int, int], latent_key: str | None = None) -> Tensor:
    """The one latent of a sample, checked. Raises Unusable."""
    member = raw.one(latent_key)
    try:
        found = [z for part in raw.stored(member) for z in part.each()]
    except Unusable:
        raise
    except (ValueError, OSError, MemoryError) as error:
        raise Unusable("unreadable latents", one_line(error)[:200]) from error
    if len(found) != 1 or found[0].shape != shape:
        got = [len(found), *found[0].shape]
        raise Unusable("latents of another shape", f"{got}; expected {[1, *shape]}")
    if not bool(torch.isfinite(found[0]).all()):
        raise Unusable("latents with NaN or infinity")
    return found[0]


def read_text(raw: Sample) -> str:
    """The caption. Raises Unusable where there is none, or an empty one."""
    if (member := raw.text()) is None:
        raise Unusable("without text")
    if not (text := _written(raw, member, "text")):
        raise Unusable("empty text")
    return text


def _written(raw: Sample, member: str, what: str) -> str:
    """What a member says. Raises Unusable where it cannot be read."""
    try:
        return caption(raw.read(member))
    except Unusable:
        raise
    except (ValueError, OSError) as error:
        raise Unusable(f"unreadable {what}", one_line(error)[:200]) from error


def read_label(raw: Sample, labels: tuple[str, ...]) -> int:
    """The class: an index or a label in a `cls` file, or the name of the folder. Raises Unusable."""
    if LABEL in raw.members:
        said = _written(raw, LABEL, "label")
    else:
        said = raw.key.replace("\\", "/").split("/")[-2] if "/" in raw.key.replace("\\", "/") else ""
    if said in labels:
        return labels.index(said)
    if said.isdecimal() and int(said) < len(labels):
        return int(said)
    raise Unusable("of no known class", repr(said[:60]))


def read_picture(raw: Sample) -> Image.Image:
    """The picture, upright, in RGB. Raises Unusable."""
    member = raw.picture()
    try:
        picture = read_rgb(raw.read(member))
    except Exception as error:  # Pillow raises whatever a malformed file leads to
        raise Unusable("unreadable picture", one_line(error)[:200]) from error
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
