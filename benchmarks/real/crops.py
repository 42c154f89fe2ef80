"""Random crops of pictures through TAESD, and what the way through pixels gives: what maps are learnt from.

Each crop is a square, SMALL pixels each way, of a picture at a random scale, or a named drawing on a ground;
no drawing is of the hand that the probe is asked about. Per crop, raw latents, by what is to be mapped:

    large, large through      SDXL's latents of the crop at twice its size; decoded, halved in pixels, encoded
    between, between through  the same of the crop at 1.25 to 1.75 times its size, brought to twice its size,
                              as the size rule "fit" does
    SPACE, SPACE through      another space's latents of it; decoded, and encoded by SDXL's. To train with,
                              some are a little off the manifold, as samplers leave latents
    sdxl                      SDXL's latents of the crop: what a map is measured against (not for training)
    picture                   which picture it is of, [number] (not for training)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from lclip.adapters.bridge import resized
from lclip.latents.resampling import resample

from . import catalogue
from .catalogue import Picture
from .packages import PHOTOGRAPH
from .plans import drawing_variant, render, small_photographs
from .reading import PictureError, read_picture
from .taesd import load_taesd

LARGE, SMALL = 384, 192
CELL = 8  # pixels a side, of TAESD's
READS_LARGE, READS_BETWEEN, NATIVE = "large", "between", "sdxl"
BETWEEN = (240, 288, 312, 312, 336)  # pixels a side, of what is read in between
OTHERS = ("sd1.5", "sd3", "flux", "flux2")
SHARES = {"photographs": 0.5, "drawings on grounds": 0.3, "others": 0.2}
OFF = 0.35  # noise that is added to every second latent at most, of its spread, to train with
TOGETHER = 2  # crops encoded at once
TRAINED = torch.bfloat16  # what the encoders compute in, but for tests
TEST = 60  # crops

Latents = dict[str, Tensor]


def load_crops(
    cache: Path,
    split: str,
    number: int,
    reads: Sequence[str] = (READS_LARGE, *OTHERS),
    say: Callable[[str], None] = print,
) -> Latents:
    """Crops of a split, made once and kept in the cache: name -> [number, C, h, w], float32.

    reads: what is to be mapped, each in a file of its own, of the same crops. Raises FileNotFoundError
    without pictures, TinyMissing without TAESD; ValueError for an odd number.
    """
    if number % TOGETHER:
        raise ValueError(f"{number} crops; they are made {TOGETHER} at a time")
    wanted = reads if split == "train" else (NATIVE, *reads)
    found: Latents = {}
    for read in wanted:

        def make(read: str = read) -> Latents:
            pictures = drawn_from(catalogue.load(cache), split)
            return make_crops(cache, pictures, split, number, read, say)

        found |= made_once(cache, f"{split}-{number}-{read}", make)
    return found


def made_once(cache: Path, name: str, make: Callable[[], Latents]) -> Latents:
    """What is kept in the cache under a name, made where it is not there: float32. Stored in half precision,
    but for the numbers of pictures."""
    path = cache / "crops" / f"{name}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({n: z if n.endswith("picture") else z.half() for n, z in make().items()}, path)
    return {n: z.float() for n, z in load_file(path).items()}


def drawn_from(pictures: Iterable[Picture], split: str) -> list[Picture]:
    """What crops of a split are of: of no drawing of the hand that the probe is asked about; for a test, of
    photographs alone, as that is what is measured."""
    mine = [p for p in pictures if p.split == split and not p.held_out]
    return [p for p in mine if p.kind == PHOTOGRAPH] if split == "test" else mine


@torch.inference_mode()
def make_crops(
    cache: Path,
    pictures: Sequence[Picture],
    split: str,
    number: int,
    read: str,
    say: Callable[[str], None] = print,
) -> Latents:
    """What belongs to one of the things to be mapped; see the module.

    The same arguments give the same latents on one machine, and the first crops of more are those of fewer.
    """
    pools, grounds = _pools(pictures), small_photographs(pictures)
    make = _Making(read, torch.float32 if split == "test" else TRAINED, noisy=split == "train")
    found: dict[str, list[Tensor]] = {}
    for first in range(0, number, TOGETHER):
        seeds = [random.Random(f"{split}-{index}") for index in range(first, first + TOGETHER)]
        drawn = [_draw(cache, pools, grounds, rng) for rng in seeds]
        made = make([crop for _, crop in drawn], first)
        if read == NATIVE:
            made["picture"] = torch.tensor([float(pictures.index(picture)) for picture, _ in drawn])
        for name, z in made.items():
            found.setdefault(name, []).append(z.float().contiguous())
        if (first + TOGETHER) % 50 == 0:
            say(f"{first + TOGETHER} of {number} crops for {read}")
    return {name: torch.cat(parts) for name, parts in found.items()}


class _Making:
    """Latents of crops, and the way through pixels, for one thing to be mapped."""

    def __init__(self, read: str, precision: torch.dtype, noisy: bool) -> None:
        self.read, self.precision = read, precision
        self.noisy = noisy and read in OTHERS
        self.sdxl = load_taesd("sdxl").quick(precision)
        self.source = load_taesd(read).quick(precision) if read in OTHERS else self.sdxl

    def __call__(self, crops: Sequence[Image.Image], seed: int) -> Latents:
        side = {READS_LARGE: LARGE, READS_BETWEEN: random.Random(seed).choice(BETWEEN)}.get(self.read, SMALL)
        shown = [c if side == LARGE else c.resize((side, side), Image.Resampling.LANCZOS) for c in crops]
        z = self.source.encode(torch.cat([pixels(picture) for picture in shown]).to(self.precision))
        if self.read == NATIVE:
            return {NATIVE: z}
        z = _off(z, seed) if self.noisy else z
        decoded = self.source.decode(z)
        if side != SMALL:
            decoded = resized(decoded.float(), SMALL, SMALL).to(self.precision)
        if self.read == READS_BETWEEN:
            z = resample(z.float(), LARGE // CELL, LARGE // CELL)
        return {self.read: z, f"{self.read} through": self.sdxl.encode(decoded)}


def _off(z: Tensor, seed: int) -> Tensor:
    """With a little noise, mostly with less, every second one with none."""
    draws = torch.Generator().manual_seed(seed)
    share = OFF * torch.rand(len(z), generator=draws) ** 2 * (torch.rand(len(z), generator=draws) < 0.5)
    noise = torch.randn(z.shape, generator=draws)
    return z + (share.view(-1, 1, 1, 1) * z.float().std() * noise).to(z.dtype)


def pixels(picture: Image.Image) -> Tensor:
    """[1, 3, H, W] in 0..1."""
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255).movedim(-1, 0)[None].contiguous()


def _pools(pictures: Sequence[Picture]) -> dict[str, list[Picture]]:
    """What is drawn from, by the names of SHARES."""
    return {
        "photographs": [p for p in pictures if p.kind == PHOTOGRAPH],
        "drawings on grounds": [p for p in pictures if p.named],
        "others": [p for p in pictures if p.kind != PHOTOGRAPH and not p.named],
    }


def _draw(
    cache: Path, pools: dict[str, list[Picture]], grounds: dict[str, list[Picture]], rng: random.Random
) -> tuple[Picture, Image.Image]:
    while True:
        (kind,) = rng.choices(list(SHARES), list(SHARES.values()))
        if not pools[kind]:
            continue
        picture = rng.choice(pools[kind])
        try:
            if picture.named:
                item = drawing_variant(picture, rng.randrange(1000), grounds[picture.split])
                return picture, Image.fromarray(render(item, LARGE, cache))
            if picture.short >= SMALL:
                return picture, _crop(read_picture(cache / picture.path), rng)
        except PictureError:
            continue


def _crop(picture: Image.Image, rng: random.Random) -> Image.Image:
    short = min(picture.size)
    side = rng.uniform(min(LARGE, short), short)
    left, top = (rng.uniform(0, length - side) for length in picture.size)
    way = Image.Resampling.LANCZOS if side > LARGE else Image.Resampling.BICUBIC
    crop = picture.resize((LARGE, LARGE), way, box=(left, top, left + side, top + side))
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else crop
