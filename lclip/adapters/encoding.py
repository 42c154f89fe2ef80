"""The pictures that an adapter learns from: encoded with both VAEs, and checked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..latents.frames import as_pictures
from ..latents.items import finite_items
from .adapter import AdapterShape

logger = logging.getLogger("latent-clip")

Encode = Callable[[Tensor], Tensor]
"""Pixels [B, 3, H, W] in 0..1 -> raw latents [B, C, h, w]."""
Decode = Callable[[Tensor], Tensor]
"""Raw latents [B, C, h, w] -> pixels [B, 3, H, W] in 0..1."""

FEWEST = 8  # pictures: fewer leave nothing to measure on
SAME = 1e-4  # of the latents' spread: pictures that differ by less are one picture


@dataclass(frozen=True)
class EncodedPictures:
    """The same pictures through both VAEs: raw latents [N, C, h, w] and [N, c, H, W].

    Single frames [N, C, 1, h, w] are taken as pictures. picture: which picture an item shows, [N]; a picture
    and its mirror image are one. through: what the way through pixels gives, [N, c, H, W]: the source latents
    decoded, and encoded again by the target's VAE; None where nobody decoded. It is a function of the source
    latents alone, and so can be learnt all the way, while the target also holds what the source VAE lost.
    """

    source: Tensor
    target: Tensor
    picture: Tensor
    through: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("source", "target", "through"):
            if (latents := getattr(self, name)) is not None:
                object.__setattr__(self, name, as_pictures(latents))

    @property
    def number(self) -> int:
        """How many pictures these are."""
        return int(self.picture.max()) + 1 if len(self.picture) else 0

    def firsts(self) -> Tensor:
        """The index of each picture's first item, as it was and not mirrored: [number]."""
        places: dict[int, int] = {}
        for index, picture in enumerate(self.picture.tolist()):
            places.setdefault(picture, index)
        return torch.tensor([places[picture] for picture in sorted(places)])

    def finite(self) -> EncodedPictures:
        """Without the pictures of which some latents hold NaN or infinity; a warning counts them."""
        sides = [z for z in (self.source, self.target, self.through) if z is not None]
        whole = torch.stack([finite_items(z) for z in sides]).all(0)
        broken = self.picture[~whole].unique()
        if len(broken) in (0, self.number):
            return self
        logger.warning(
            "%d of %d pictures are left out: their latents hold NaN or infinity; the VAE overflowed, often "
            "in half precision. Use fp32.",
            len(broken),
            self.number,
        )
        kept = ~torch.isin(self.picture, broken)
        numbers = self.picture[kept].unique(return_inverse=True)[1]
        through = None if self.through is None else self.through[kept]
        return EncodedPictures(self.source[kept], self.target[kept], numbers, through)


def apart(call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The answer to a copy, as a copy: some write into what they get, or answer with one buffer for ever."""
    return call(x.clone()).clone()


def encode_pictures(
    pictures: Iterable[Tensor],
    encode_source: Encode,
    encode_target: Encode,
    mirrored: bool = True,
    decode_source: Decode | None = None,
) -> EncodedPictures:
    """Encode pictures with both VAEs, each picture also as its mirror image.

    pictures: batches [B, 3, H, W] in 0..1 of one size; only their latents are kept. encode_source,
    encode_target: pixels in 0..1 -> raw latents [B, C, h, w], called without gradient. decode_source: raw
    latents -> pixels in 0..1, for what the way through pixels gives.
    """
    found: list[tuple[Tensor, ...]] = []
    count = 0
    for batch in pictures:
        numbers = torch.arange(count, count + len(batch))
        count += len(batch)
        for pixels in (batch, batch.flip(3)) if mirrored else (batch,):
            with torch.no_grad():
                z = apart(encode_source, pixels)
                through = [] if decode_source is None else [apart(encode_target, decode_source(z.clone()))]
                latents = [x.float().cpu() for x in (z, apart(encode_target, pixels), *through)]
            found.append((latents[0], latents[1], numbers, *latents[2:]))
    if not found:
        raise ValueError(f"no picture to learn from; expected at least {FEWEST}")
    return EncodedPictures(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def check_encoded(pictures: EncodedPictures, shape: AdapterShape) -> None:
    """Raise ValueError for encoded pictures that no adapter of this shape can be trained on."""
    for space, z in ((shape.source, pictures.source), (shape.target, pictures.target)):
        if z.ndim != 4 or z.shape[1] != space.channels:
            raise ValueError(
                f"the pictures' latents have shape {list(z.shape)}; expected {space.title}, [pictures, "
                f"{space.channels}, height, width]. Use the VAE of that space."
            )
        if not bool(finite_items(z).all()):
            raise ValueError(
                f"{space.title} of {int((~finite_items(z)).sum())} pictures hold NaN or infinity; the VAE "
                "overflowed, often in half precision. Use fp32."
            )
    number = pictures.number
    if number < FEWEST:
        raise ValueError(
            f"{number} picture{'s' * (number != 1)} to learn from; expected at least {FEWEST}, better 500 or "
            "more, as different as those that will be read"
        )
    _check_grids(pictures, shape)
    for space, z in ((shape.source, pictures.source), (shape.target, pictures.target)):
        seen = z[pictures.firsts()].float()
        if float(seen.std(0).mean()) <= SAME * float(seen.std()):
            raise ValueError(
                f"all {number} pictures give the same {space.title}; expected different pictures, or nothing "
                "can be learnt from them"
            )


def _check_grids(pictures: EncodedPictures, shape: AdapterShape) -> None:
    source, target = (tuple(z.shape[-2:]) for z in (pictures.source, pictures.target))
    if any(a * shape.split != b * shape.merge for a, b in zip(source, target, strict=True)):
        raise ValueError(
            f"the same pictures have {source[0]}x{source[1]} cells in {shape.source.title} and "
            f"{target[0]}x{target[1]} in {shape.target.title}; expected {shape.split}/{shape.merge} times as "
            "many. Encode pictures whose sides are multiples of both VAEs' factors, and check which VAE is "
            "which."
        )
