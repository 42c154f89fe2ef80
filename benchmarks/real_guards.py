"""What the checks of latents say of real pictures, of noise and of latents at the sampler's scale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import lclip
from lclip.latents.reader import NativeSize
from lclip.latents.scale import looks_like_noise, measure
from lclip.latents.siblings import ALONE, SIBLINGS, TOGETHER, log_odds_of
from lclip.statistics import wilson

from .harness import Run, Skipped, table
from .real.crops import LARGE, OTHERS, SMALL, TEST, load_crops
from .real.encoded import PIXELS, load_encoded, plan_folder
from .real.fetching import cache_folder
from .real.kinds import load_kinds
from .real.taesd import CAVEAT, FILES, TinyMissing

NATIVE = 64  # cells each way, as the released models': what is smaller is a crop to them
PLANS = {
    "photographs-1024": "photographs",
    "probe-learnt": "drawings",
    "probe-style": "another hand's drawings",
    "probe-grounds": "the same on colours and photographs",
    "probe-names": "drawings of other names",
}
SCALES = (1.0, 3.0, 6.0, 11.0)
SIDES = (16, 32, 64)
NOISES = 200
SHARES = (0.5, 0.6, 0.7, 0.8)


@dataclass
class Group:
    """Latents [N, C, h, w] of pictures of one kind, in one space."""

    kind: str
    space: str
    latents: Tensor

    @property
    def reader(self) -> NativeSize:
        """A model of the released ones' size for this space."""
        return NativeSize(lclip.space_named(self.space), NATIVE)

    @property
    def cells(self) -> str:
        return "x".join(str(side) for side in self.latents.shape[-2:])


@torch.inference_mode()
def guards(run: Run) -> str:
    """False alarms on pictures of several kinds; what is told of noise and of scaled latents."""
    of_kinds, others = _given(run)
    groups = [*of_kinds, *others]
    number, each = (sum(len(group.latents) for group in some) for some in (groups, of_kinds))
    return (
        f"{number} latents of pictures, {CAVEAT}. {each} are of as many test pictures of every kind, each "
        "once, whole or its middle square, at 256 to 2048 px; the others all that lie encoded in the cache, "
        f"in {len(FILES)} spaces (make pictures, real-sizes, real-probe). The checks are those of a model of "
        f"{NATIVE}x{NATIVE} cells. One of their numbers was chosen on these: half-noisy latents are told "
        "from 32x32 cells on, since at 16x16 one drawing looked like them. A false alarm blocks a picture "
        "at the gate. 95 % intervals (Wilson).\n\n"
        f"{_false_alarms(groups)}\n\n{_crops(groups)}\n\n{_of_noise(run)}\n\n{_of_shares(groups)}\n\n"
        f"{_of_scaled(groups)}\n\n{_of_siblings(groups)}"
    )


def _given(run: Run) -> tuple[list[Group], list[Group]]:
    """Test pictures of every kind, and what else is encoded."""
    try:
        return list(_of_kinds(run)), list(_others(run))
    except FileNotFoundError as missing:
        raise Skipped("there are no pictures; `make pictures` fetches them") from missing
    except TinyMissing as missing:
        raise Skipped(str(missing)) from missing


def _of_kinds(run: Run) -> Iterator[Group]:
    for size, found in load_kinds(cache_folder(), 0.02 if run.tiny else 1.0, run.say).items():
        for kind in sorted({item["kind"] for item in found.items}):
            chosen = [n for n, item in enumerate(found.items) if item["kind"] == kind]
            yield Group(f"{kind}, {size} px", "sdxl", found.latents[chosen].float())


def _others(run: Run) -> Iterator[Group]:
    cache = cache_folder()
    crops = load_crops(cache, "test", run.choose(TEST, 2), say=run.say)
    yield Group(f"crops of photographs, {LARGE} px", "sdxl", crops["large"])
    for space in ("sdxl", *OTHERS):
        yield Group(f"crops of photographs, {SMALL} px", space, crops[space])
    yield from _planned(cache)


def _planned(cache: Path) -> Iterator[Group]:
    for plan, kind in PLANS.items():
        for folder in sorted(plan_folder(cache, plan).glob("*-*")):
            space, _, size = folder.name.rpartition("-")
            if space in FILES and space != PIXELS and size.isdigit():
                found = load_encoded(cache, plan, space, int(size))
                yield Group(f"{kind}, {size} px", space, found.latents.float())


def _false_alarms(groups: list[Group]) -> str:
    rows, whole, wrong = [], 0, 0
    for group in groups:
        scales = measure(group.latents, group.reader)
        counts = {name: int(getattr(scales, name).sum()) for name in ("noise", "small", "large")}
        whole, wrong = whole + len(group.latents), wrong + sum(counts.values())
        told = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"
        rows.append((group.kind, lclip.space_title(group.space), group.cells, len(group.latents), told))
    rows.append(("all", "", "", whole, f"{wrong}: {wilson(wrong, whole).percent()}"))
    return "Called noise, too small or too large:\n\n" + table(
        ("pictures", "space", "cells", "n", "false alarms"), rows
    )


def _crops(groups: list[Group]) -> str:
    """Crops of the latents themselves, as a model of such a size would read them."""
    rows = []
    for side in (8, 16, 24):
        told = number = 0
        for group in groups:
            for top, left in _places(group.latents, side):
                crop = group.latents[..., top : top + side, left : left + side]
                told, number = told + int(looks_like_noise(crop, NATIVE).sum()), number + len(crop)
        rows.append((f"{side}x{side}", number, f"{told}: {wilson(told, number).percent()}"))
    return (
        "Crops of those latents that are called noise (below 16x16 cells nothing is, unless the model is as "
        "small itself):\n\n" + table(("cells", "crops", "called noise"), rows)
    )


def _places(z: Tensor, side: int) -> list[tuple[int, int]]:
    rows, columns = (length - side for length in z.shape[-2:])
    if min(rows, columns) <= 0:
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


def _of_shares(groups: list[Group]) -> str:
    """Half-noisy latents: (1 - t) z + t noise in the sampler's scale, as flow models mix them."""
    source, rows = torch.Generator().manual_seed(1), []
    large = [group for group in groups if min(group.latents.shape[-2:]) >= 32]
    for share in SHARES:
        told = number = 0
        for group in large:
            space = lclip.space_named(group.space)
            scaled = space.to_sampler(group.latents)
            mixed = (1 - share) * scaled + share * torch.randn(scaled.shape, generator=source)
            told += int(looks_like_noise(space.to_raw(mixed), NATIVE).sum())
            number += len(mixed)
        rows.append((f"{share:g}", number, wilson(told, number).percent()))
    return (
        "Unfinished latents of flow models, (1 - t) z + t noise, at 32x32 cells and more, called noise:\n\n"
        + table(("t", "n", "share"), rows)
    )


def _of_scaled(groups: list[Group]) -> str:
    """Latents at the sampler's scale, handed on as if they were raw."""
    rows = []
    for name in [name for name in FILES if lclip.space_named(name).scaled_down]:
        here = [group for group in groups if group.space == name]
        scaled = [(g, measure(lclip.space_named(name).to_sampler(g.latents), g.reader)) for g in here]
        told, number = sum(int(s.small.sum()) for _, s in scaled), sum(len(g.latents) for g in here)
        rows.append((lclip.space_title(name), number, wilson(told, number).percent()))
    return "Latents multiplied for sampling that are called too small:\n\n" + table(("", "n", "share"), rows)


def _of_siblings(groups: list[Group]) -> str:
    """SD1.5's latents read as SDXL's, and the other way round; alone, and four of a kind as a batch."""
    rows = []
    kinds = {g.kind for g in groups if g.space == "sd1.5"}
    for own in ("sdxl", "sd1.5"):
        for space in ("sdxl", "sd1.5"):
            here = [g.latents for g in groups if g.space == space and g.kind in kinds]
            odds = torch.cat([log_odds_of(z, SIBLINGS[own]) for z in here])
            fours = odds[: len(odds) // 4 * 4].reshape(-1, 4).mean(1)
            alone, four = int((odds > TOGETHER + ALONE).sum()), int((fours > TOGETHER + ALONE / 4).sum())
            told = wilson(alone, len(odds)).percent(), wilson(four, len(fours)).percent()
            rows.append((lclip.space_title(own), lclip.space_title(space), len(odds), *told))
    return "Warned of as the other space of the same shape:\n\n" + table(
        ("read as", "in truth", "n", "a picture alone", "four as a batch"), rows
    )
