"""What the checks of latents say of real pictures, of noise and of latents at the sampler's scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import lclip
from lclip.latents.reader import NativeSize
from lclip.latents.scale import looks_like_noise, measure
from lclip.latents.siblings import ALONE, SIBLINGS, TOGETHER, log_odds_of
from lclip.statistics import wilson

from .harness import Run, Skipped, table
from .real import catalogue
from .real.catalogue import Picture, unit_hash
from .real.crops import pixels
from .real.fetching import cache_folder
from .real.reading import PictureError, read_picture
from .real.taesd import CAVEAT, FILES, TinyMissing, load_taesd

NATIVE = 64  # cells each way, as the released models': what is smaller is a crop to them
SIZES = {256: 420, 512: 70, 1024: 10, 2048: 2}  # pictures of each; each in one space, in turn
SCALES = (1.0, 3.0, 6.0, 11.0)
SIDES = (16, 32, 64)
NOISES = 200
SHARES = (0.5, 0.6, 0.7, 0.8)


@dataclass
class Encoded:
    """The latents of a picture: of which kind, in which space, encoded at so many pixels."""

    kind: str
    space: str
    size: int
    latents: Tensor


@torch.inference_mode()
def guards(run: Run) -> str:
    """False alarms on test pictures of every kind; what is told of noise and of scaled latents."""
    found = list(_encoded(run))
    named = ", ".join(
        f"{number} at {size} px" for size, number in sorted(Counter(e.size for e in found).items())
    )
    return (
        f"{len(found)} test pictures ({named}), each in one of {len(FILES)} spaces, {CAVEAT}. Called: by the "
        f"checks of a model of {NATIVE}x{NATIVE} cells. A false alarm blocks a picture at the gate. 95 % "
        "intervals (Wilson).\n\n"
        f"{_false_alarms(found)}\n\n{_crops(found)}\n\n{_of_noise(run)}\n\n{_of_shares(found)}\n\n"
        f"{_of_scaled(found)}\n\n{_of_siblings(found)}"
    )


def _encoded(run: Run) -> Iterator[Encoded]:
    try:
        pictures = [p for p in catalogue.load(cache_folder()) if p.split == "test"]
        models = [load_taesd(space) for space in FILES]
    except FileNotFoundError as missing:
        raise Skipped("there are no pictures; `make pictures` fetches them") from missing
    except TinyMissing as missing:
        raise Skipped(str(missing)) from missing
    turns: Counter[int] = Counter()
    for number, (picture, sizes) in enumerate(_planned(pictures, run)):
        if number % 50 == 0:
            run.say(f"{number} pictures read")
        for size, pixel in read_at(cache_folder(), picture, sizes):
            model = models[turns[size] % len(models)]
            turns[size] += 1
            yield Encoded(_kind(picture), model.space.name, size, model.encode(pixel))


def _planned(pictures: Sequence[Picture], run: Run) -> list[tuple[Picture, list[int]]]:
    """Which pictures, each with the sizes that it is wanted at: each is read once."""
    wanted: dict[str, list[int]] = {}
    for size, number in SIZES.items():
        for picture in chosen_pictures(pictures, size, run.choose(number, 4)):
            wanted.setdefault(picture.id, []).append(size)
    return [(picture, wanted[picture.id]) for picture in pictures if picture.id in wanted]


def chosen_pictures(pictures: Iterable[Picture], size: int, number: int) -> list[Picture]:
    """So many pictures, every kind in turn: the rare kinds whole, the common ones in part."""
    by_kind: dict[str, list[Picture]] = {}
    for picture in sorted(pictures, key=lambda p: unit_hash(f"guards {size} {p.id}")):
        # Photographs are never enlarged; drawings are drawn, so they may be.
        if picture.kind != "photograph" or picture.short >= size:
            by_kind.setdefault(_kind(picture), []).append(picture)
    chosen: list[Picture] = []
    while len(chosen) < number and any(by_kind.values()):
        for kind in sorted(by_kind):
            chosen += by_kind[kind][:1]
            del by_kind[kind][:1]
    return chosen[:number]


def _kind(picture: Picture) -> str:
    return picture.kind + (f", {picture.tone}" if picture.tone and picture.kind == "photograph" else "")


def read_at(cache: Path, picture: Picture, sizes: Iterable[int]) -> Iterator[tuple[int, Tensor]]:
    """A picture with its long side at about each size, both sides multiples of 16: [1, 3, H, W]."""
    try:
        image = read_picture(cache / picture.path)
    except PictureError:
        return
    for size in sizes:
        factor = size / max(image.size)
        sides = [max(16 * 16, round(side * factor / 16) * 16) for side in image.size]
        shown = image.resize((sides[0], sides[1]), Image.Resampling.LANCZOS, reducing_gap=3.0)
        yield size, pixels(shown)


def _reader(space: str) -> NativeSize:
    return NativeSize(lclip.space_named(space), NATIVE)


def _called(e: Encoded) -> str | None:
    """What the checks call a picture, or None."""
    scales = measure(e.latents, _reader(e.space))
    marks = {"noise": scales.noise, "too small": scales.small, "too large": scales.large}
    return next((name for name, mark in marks.items() if bool(mark.any())), None)


def _false_alarms(found: list[Encoded]) -> str:
    rows = []
    for kind in [*sorted({e.kind for e in found}), "all"]:
        here = [e for e in found if kind in (e.kind, "all")]
        called = Counter(_called(e) for e in here)
        wrong = len(here) - called[None]
        named = ", ".join(f"{number} {name}" for name, number in called.items() if name) or "none"
        rows.append((kind, len(here), named, wilson(wrong, len(here)).percent()))
    return "False alarms on whole pictures:\n\n" + table(("kind", "pictures", "called", "share"), rows)


def _crops(found: list[Encoded]) -> str:
    """Crops of the latents themselves, four a picture, as a model of such a size would read them."""
    rows = []
    for side in (8, 16, 24):
        crops = [
            (e.space, e.latents[..., top : top + side, left : left + side])
            for e in found
            for top, left in _places(e.latents, side)
        ]
        told = sum(bool(looks_like_noise(z, NATIVE).any()) for _, z in crops)
        rows.append((f"{side}x{side}", len(crops), wilson(told, len(crops)).percent()))
    return (
        "Crops of those latents that are called noise (below 16x16 cells nothing is, unless the model is as "
        "small itself):\n\n" + table(("cells", "crops", "called noise"), rows)
    )


def _places(z: Tensor, side: int) -> list[tuple[int, int]]:
    rows, columns = (length - side for length in z.shape[-2:])
    if min(rows, columns) < 0:
        return []
    return sorted({(0, 0), (rows, columns), (rows // 2, columns // 2), (rows // 3, 2 * columns // 3)})


def _of_noise(run: Run) -> str:
    number, rows = run.choose(NOISES, 10), []
    source = torch.Generator().manual_seed(0)
    for space in FILES:
        channels, cells = lclip.space_named(space).channels, []
        for side in SIDES:
            drawn = torch.randn(number, channels, side, side, generator=source)
            told = sum(int(looks_like_noise(std * drawn, NATIVE).sum()) for std in SCALES)
            cells.append(f"{told} of {number * len(SCALES)}")
        rows.append((lclip.space_title(space), *cells))
    scales = ", ".join(f"{std:g}" for std in SCALES)
    return f"White noise that is called noise, of standard deviation {scales}:\n\n" + table(
        ("", *(f"{side}x{side} cells" for side in SIDES)), rows
    )


def _of_shares(found: list[Encoded]) -> str:
    """Half-noisy latents: (1 - t) z + t noise in the sampler's scale, as flow models mix them."""
    source, rows = torch.Generator().manual_seed(1), []
    whole = [e for e in found if e.size == 512 and e.latents[0, 0].numel() >= 1024]
    for share in SHARES:
        told = 0
        for e in whole:
            space = lclip.space_named(e.space)
            scaled = space.to_sampler(e.latents)
            mixed = (1 - share) * scaled + share * torch.randn(scaled.shape, generator=source)
            told += bool(looks_like_noise(space.to_raw(mixed), NATIVE).any())
        rows.append((f"{share:g}", wilson(told, len(whole)).percent()))
    return (
        f"Unfinished latents of flow models, (1 - t) z + t noise, at 512 px (n = {len(whole)}), called "
        "noise:\n\n" + table(("t", "share"), rows)
    )


def _of_scaled(found: list[Encoded]) -> str:
    """Latents at the sampler's scale, handed on as if they were raw."""
    rows = []
    for space in [name for name in FILES if lclip.space_named(name).scaled_down]:
        here = [e for e in found if e.space == space]
        scaled = [measure(lclip.space_named(space).to_sampler(e.latents), _reader(space)) for e in here]
        told = sum(bool(scales.small.any()) for scales in scaled)
        rows.append((lclip.space_title(space), wilson(told, len(here)).percent()))
    return "Latents multiplied for sampling that are called too small:\n\n" + table(("", "share"), rows)


def _of_siblings(found: list[Encoded]) -> str:
    """SD1.5's latents read as SDXL's, and the other way round; alone, and four of a kind as a batch."""
    rows = []
    for own, other in (("sdxl", "sd1.5"), ("sd1.5", "sdxl")):
        for label, space in ((f"{own}: {own}", own), (f"{own}: {other} in its place", other)):
            here = [e.latents for e in found if e.space == space and e.latents[0, 0].numel() >= 256]
            odds = torch.cat([log_odds_of(z, SIBLINGS[own]) for z in here])
            groups = odds[: len(odds) // 4 * 4].reshape(-1, 4).mean(1)
            alone = int((odds > TOGETHER + ALONE).sum())
            four = int((groups > TOGETHER + ALONE / 4).sum())
            rows.append(
                (label, wilson(alone, len(odds)).percent(), wilson(four, len(groups)).percent(), len(odds))
            )
    return "Warned of as another space of the same shape:\n\n" + table(
        ("read as", "a picture alone", "four as a batch", "pictures"), rows
    )
