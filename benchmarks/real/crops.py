"""Random crops of pictures through TAESD, and what the way through pixels gives: what maps are learnt from.

Each crop is a square, LARGE pixels each way, out of a picture at a random scale. Per crop, raw latents:

    large, large through          SDXL's latents of the crop; decoded, halved in pixels and encoded again
    sdxl                          SDXL's latents of the crop at SMALL pixels: what a map is measured against
    SPACE, SPACE through          another space's latents of it; decoded, and encoded by SDXL's
    picture                       which picture it is of, [number]
    SPACE off, SPACE off through  AWAY of each: mirrored or turned, and a little off the manifold, as samplers
                                  leave latents (train only)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import lclip
from lclip.adapters.bridge import resized

from . import catalogue
from .catalogue import Picture
from .reading import PictureError, read_picture
from .taesd import Taesd, load_taesd

LARGE, SMALL = 384, 192
FACTOR = 8  # pixels a side of a cell of TAESD's
READS_LARGE = "large"
OTHERS = ("sd1.5", "sd3", "flux", "flux2")
PHOTOGRAPHS = 0.75  # of the crops; the others are drawings, documents, pixel art and the like
AWAY = 3  # more latents to learn from, of each crop: cheaper than more crops
OFF = 0.35  # noise that is added to those at most, of their spread

Latents = dict[str, Tensor]


def load_crops(
    cache: Path,
    split: str,
    number: int,
    reads: Sequence[str] = (READS_LARGE, *OTHERS),
    say: Callable[[str], None] = print,
) -> Latents:
    """Crops of a split, made once and kept in the cache: name -> [number, C, h, w], float32.

    reads: what is to be mapped, READS_LARGE or other spaces, each in a file of its own, of the same crops.
    Raises FileNotFoundError without pictures, TinyMissing without TAESD.
    """
    found: Latents = {}
    for read in reads:
        path = cache / "crops" / f"{split}-{number}-{read}.safetensors"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            pictures = [picture for picture in catalogue.load(cache) if picture.split == split]
            made = make_crops(cache, pictures, number, read, off=split == "train", say=say)
            save_file({name: z if name == "picture" else z.half() for name, z in made.items()}, path)
        found |= {name: z.float() for name, z in load_file(path).items()}
    return found


@torch.inference_mode()
def make_crops(
    cache: Path,
    pictures: Sequence[Picture],
    number: int,
    read: str,
    off: bool,
    say: Callable[[str], None] = print,
) -> Latents:
    """See the module: `picture`, `sdxl`, and what belongs to one of the things to be mapped.

    The same arguments give the same latents on one machine, and the first crops of more are those of fewer.
    """
    rng = random.Random(0)
    noise = torch.Generator().manual_seed(0)
    sdxl = load_taesd("sdxl")
    other = None if read == READS_LARGE else load_taesd(read)
    found: dict[str, list[Tensor]] = {}
    for count in range(1, number + 1):
        picture, crop = _draw(cache, pictures, rng)
        small = pixels(crop.resize((SMALL, SMALL), Image.Resampling.LANCZOS))
        made = {"picture": torch.tensor([float(pictures.index(picture))]), "sdxl": sdxl.encode(small)}
        if other is None:
            made |= _large(sdxl, crop)
        else:
            made |= _mapped(sdxl, other, read, small, noise if off else None)
        for name, z in made.items():
            found.setdefault(name, []).append(z)
        if count % 20 == 0:
            say(f"{count} of {number} crops for {read}")
    return {name: torch.cat(parts) for name, parts in found.items()}


def pixels(picture: Image.Image) -> Tensor:
    """[1, 3, H, W] in 0..1."""
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255).movedim(-1, 0)[None].contiguous()


def _draw(cache: Path, pictures: Sequence[Picture], rng: random.Random) -> tuple[Picture, Image.Image]:
    photographs = [picture for picture in pictures if picture.kind == "photograph"]
    rest = [picture for picture in pictures if picture.kind != "photograph"]
    while True:
        pool = photographs if rng.random() < PHOTOGRAPHS or not rest else rest
        picture = rng.choice(pool)
        if picture.short < SMALL:
            continue
        try:
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


def _large(sdxl: Taesd, crop: Image.Image) -> Latents:
    large = sdxl.encode(pixels(crop))
    return {"large": large, "large through": sdxl.encode(resized(sdxl.decode(large), SMALL, SMALL))}


def _mapped(sdxl: Taesd, other: Taesd, space: str, small: Tensor, noise: torch.Generator | None) -> Latents:
    def through(z: Tensor) -> Tensor:
        return sdxl.encode(other.decode(z))

    z = other.encode(small)
    found = {space: z, f"{space} through": through(z)}
    if noise is not None:
        patch = lclip.space_named(space).factor // FACTOR
        away = torch.cat([_away(z, patch, noise) for _ in range(AWAY)])
        found |= {f"{space} off": away, f"{space} off through": through(away)}
    return found


def _away(z: Tensor, patch: int, noise: torch.Generator) -> Tensor:
    """Mirrored or turned, and with a little noise, mostly with less. patch: of cells that are channels."""
    turns, mirrored = divmod(int(torch.randint(1, 8, (), generator=noise)), 2)
    turned = F.pixel_shuffle(z, patch).rot90(turns, (2, 3))
    turned = F.pixel_unshuffle(turned.flip(3) if mirrored else turned, patch)
    share = OFF * float(torch.rand((), generator=noise)) ** 2
    return turned + share * z.std() * torch.randn(z.shape, generator=noise)
