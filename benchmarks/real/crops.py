"""Random crops of pictures through TAESD, and what the way through pixels gives: what maps are learnt from.

Each crop is a square, LARGE pixels each way, out of a picture at a random scale. Per crop, raw latents:

    large, large through          SDXL's latents of the crop; decoded, halved in pixels and encoded again
    sdxl                          SDXL's latents of the crop at SMALL pixels: what a map is measured against
    SPACE, SPACE through          another space's latents of it; decoded, and encoded by SDXL's
    picture                       which picture it is of, [number]
    SPACE off, SPACE off through  the same a little off the manifold, as samplers leave latents (train only)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from lclip.adapters.bridge import resized

from . import catalogue
from .catalogue import Picture
from .reading import PictureError, read_picture
from .taesd import Taesd, load_taesd

LARGE, SMALL = 384, 192
OTHERS = ("sd1.5", "sd3", "flux", "flux2")
PHOTOGRAPHS = 0.75  # of the crops; the others are drawings, documents, pixel art and the like
OFF = (0.05, 0.35)  # noise added to latents, of their spread

Latents = dict[str, Tensor]


def load_crops(
    cache: Path, split: str, number: int, seed: int = 0, say: Callable[[str], None] = print
) -> Latents:
    """Crops of a split, made once and kept in the cache: name -> [number, C, h, w], float32.

    Raises FileNotFoundError without pictures, TinyMissing without TAESD.
    """
    path = cache / "crops" / f"{split}-{number}-{seed}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        pictures = [picture for picture in catalogue.load(cache) if picture.split == split]
        made = make_crops(cache, pictures, number, seed, off=split == "train", say=say)
        whole = {name: z if name == "picture" else z.half() for name, z in made.items()}
        save_file(whole, path)
    return {name: z.float() for name, z in load_file(path).items()}


@torch.inference_mode()
def make_crops(
    cache: Path,
    pictures: Sequence[Picture],
    number: int,
    seed: int,
    off: bool,
    say: Callable[[str], None] = print,
) -> Latents:
    """See the module. The same arguments give the same crops on one machine."""
    rng = random.Random(seed)
    noise = torch.Generator().manual_seed(seed)
    models = {space: load_taesd(space) for space in ("sdxl", *OTHERS)}
    found: dict[str, list[Tensor]] = {}
    for count in range(1, number + 1):
        picture, crop = _draw(cache, pictures, rng)
        found.setdefault("picture", []).append(torch.tensor([float(pictures.index(picture))]))
        for name, z in _sized(models["sdxl"], crop).items():
            found.setdefault(name, []).append(z)
        small = pixels(crop.resize((SMALL, SMALL), Image.Resampling.LANCZOS))
        for space in OTHERS:
            for name, z in _mapped(models, space, small, rng, noise, off).items():
                found.setdefault(name, []).append(z)
        if count % 20 == 0:
            say(f"{count} of {number} crops")
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


def _sized(sdxl: Taesd, crop: Image.Image) -> Latents:
    large = sdxl.encode(pixels(crop))
    small = sdxl.encode(pixels(crop.resize((SMALL, SMALL), Image.Resampling.LANCZOS)))
    return {
        "large": large,
        "large through": sdxl.encode(resized(sdxl.decode(large), SMALL, SMALL)),
        "sdxl": small,
    }


def _mapped(
    models: dict[str, Taesd], space: str, small: Tensor, rng: random.Random, noise: torch.Generator, off: bool
) -> Latents:
    def through(z: Tensor) -> Tensor:
        return models["sdxl"].encode(models[space].decode(z))

    z = models[space].encode(small)
    found = {space: z, f"{space} through": through(z)}
    if off:
        away = z + z.std() * rng.uniform(*OFF) * torch.randn(z.shape, generator=noise)
        found |= {f"{space} off": away, f"{space} off through": through(away)}
    return found
