"""Random crops of pictures through TAESD, and what the way through pixels gives: what maps are learnt from.

Each crop is a square, LARGE pixels each way, of a picture at a random scale, or a named drawing on a ground;
no drawing is of the hand that the probe is asked about. Per crop, raw latents:

    large, large through          SDXL's latents of the crop; decoded, halved in pixels and encoded again
    sdxl                          SDXL's latents of the crop at SMALL pixels: what a map is measured against
                                  (not for training)
    SPACE, SPACE through          another space's latents of it; decoded, and encoded by SDXL's
    picture                       which picture it is of, [number]
    SPACE off, SPACE off through  AWAY of each: mirrored or turned, and a little off the manifold, as samplers
                                  leave latents (train only)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
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
from .packages import PHOTOGRAPH
from .plans import drawing_variant, render, small_photographs
from .reading import PictureError, read_picture
from .taesd import Taesd, load_taesd

LARGE, SMALL = 384, 192
CELL = 8  # pixels a side, of TAESD's
READS_LARGE = "large"
OTHERS = ("sd1.5", "sd3", "flux", "flux2")
SHARES = {"photographs": 0.5, "drawings on grounds": 0.3, "others": 0.2}
AWAY = 2  # more latents to learn from, of each crop: cheaper than more crops
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

        def make(read: str = read) -> Latents:
            pictures = drawn_from(catalogue.load(cache), split)
            return make_crops(cache, pictures, number, read, learnt=split == "train", say=say)

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
    number: int,
    read: str,
    learnt: bool,
    say: Callable[[str], None] = print,
) -> Latents:
    """See the module: `picture`, `sdxl`, and what belongs to one of the things to be mapped.

    The same arguments give the same latents on one machine, and the first crops of more are those of fewer.
    """
    rng = random.Random(0)
    noise = torch.Generator().manual_seed(0)
    sdxl = load_taesd("sdxl")
    other = None if read == READS_LARGE else load_taesd(read)
    pools, grounds = _pools(pictures), small_photographs(pictures)
    found: dict[str, list[Tensor]] = {}
    for count in range(1, number + 1):
        picture, crop = _draw(cache, pools, grounds, rng)
        small = pixels(crop.resize((SMALL, SMALL), Image.Resampling.LANCZOS))
        made = {"picture": torch.tensor([float(pictures.index(picture))])}
        if not learnt:
            made["sdxl"] = sdxl.encode(small)
        if other is None:
            made |= _large(sdxl, crop)
        else:
            made |= _mapped(sdxl, other, read, small, noise if learnt else None)
        for name, z in made.items():
            found.setdefault(name, []).append(z)
        if count % 20 == 0:
            say(f"{count} of {number} crops for {read}")
    return {name: torch.cat(parts) for name, parts in found.items()}


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


def _large(sdxl: Taesd, crop: Image.Image) -> Latents:
    large = sdxl.encode(pixels(crop))
    return {"large": large, "large through": sdxl.encode(resized(sdxl.decode(large), SMALL, SMALL))}


def _mapped(sdxl: Taesd, other: Taesd, space: str, small: Tensor, noise: torch.Generator | None) -> Latents:
    def through(z: Tensor) -> Tensor:
        return sdxl.encode(other.decode(z))

    z = other.encode(small)
    found = {space: z, f"{space} through": through(z)}
    if noise is not None:
        patch = lclip.space_named(space).factor // CELL
        away = torch.cat([_away(z, patch, noise) for _ in range(AWAY)])
        found |= {f"{space} off": away, f"{space} off through": through(away)}
    return found


def _away(z: Tensor, patch: int, noise: torch.Generator) -> Tensor:
    """Turned, and with a little noise, mostly with less."""
    moved = turned(z, patch, noise)
    share = OFF * float(torch.rand((), generator=noise)) ** 2
    return moved + share * z.std() * torch.randn(z.shape, generator=noise)


def turned(z: Tensor, patch: int, draws: torch.Generator) -> Tensor:
    """Latents in one of the seven other positions of a square. patch: cells a side that lie in channels."""
    turns, mirrored = divmod(int(torch.randint(1, 8, (), generator=draws)), 2)
    cells = F.pixel_shuffle(z, patch).rot90(turns, (2, 3))
    return F.pixel_unshuffle(cells.flip(3) if mirrored else cells, patch)
