"""What the shipped maps keep of real pictures: other sizes, and other models' latents, through TAESD."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import lclip
from lclip.latents.reader import NativeSize
from lclip.latents.size_rules import RULES
from lclip.statistics import bootstrap

from .harness import Run, Skipped, table
from .real.crops import OTHERS, SMALL, Latents, load_crops
from .real.fetching import cache_folder
from .real.maps import ANCHOR_BLOCKS, ANCHOR_WIDTH, DEV, PLANS, TRAIN, learn_anchor
from .real.sized import NATIVE, SHORTEST, SIZES, load_sized
from .real.taesd import CAVEAT, Taesd, TinyMissing, load_taesd
from .real_gate import gate

CROPS, PHOTOGRAPHS = 40, 12
SEEN = {"train": TRAIN, "dev": DEV}
ANCHORED = ("flux",)
MEANING = (
    "Error: |z - z'|^2 as a share of the variance of z', the latents of the same picture encoded at the "
    "smaller size by SDXL's VAE. PSNR: against z' decoded. Intervals over photographs."
)
COLUMNS = ("squared error", "std kept, by channel", "PSNR decoded, dB")


def sizes(run: Run) -> str:
    """SDXL's latents of photographs at other sizes brought to the native one, by every way there is."""
    sized, sdxl = _found(lambda cache: load_sized(cache, "test", run.choose(PHOTOGRAPHS, 2), run.say))
    rows = []
    for title in SIZES:
        z, native = sized[title], sized[f"{title} native"]
        ways = {**_resampled(z), "the way through pixels": lambda title=title: sized[f"{title} through"]}
        told = _rows(ways, native, sized[f"{title} picture"], sdxl)
        rows += [[title, *row] for row in told]
    number = len(sized[f"{next(iter(SIZES))} picture"])
    return (
        f"SDXL's latents at other sizes brought to {SMALL} px on the shorter side. {number} test photographs "
        f"of {SHORTEST} px or more, one picture of each, {CAVEAT}. All sizes at 3/8 of what they are for a "
        f"model of 64x64 cells: 2x is {2 * SMALL} px for {SMALL}, 832x1216 is 312x456. {MEANING}\n\n"
        + table(("size", "way", *COLUMNS), rows)
    )


def _resampled(z: Tensor) -> dict[str, Callable[[], Tensor]]:
    """The ways that have latents at the native size: rules, and at 2x what people do by hand."""
    reader = NativeSize(lclip.space_named("sdxl"), NATIVE)
    ways: dict[str, Callable[[], Tensor]] = {
        "bilinear, antialiased (crops; a square's resize)": lambda: RULES["crops"](z, reader)[0],
        "fit, the shipped map": lambda: RULES["fit"](z, reader)[0],
    }
    if z.shape[-2:] == (2 * NATIVE, 2 * NATIVE):
        ways["nearest"] = lambda: z[..., ::2, ::2]
        ways["2x2 mean"] = lambda: F.avg_pool2d(z, 2)
    return ways


def adapters(run: Run) -> str:
    """Other spaces' latents of a crop as SDXL's."""
    crops, sdxl = _found(lambda cache: load_crops(cache, "test", run.choose(CROPS, 2), OTHERS, run.say))
    anchored = {space: _anchor(run, space, crops) for space in ANCHORED}
    ways: dict[str, Callable[[], Tensor]] = {}
    for space in OTHERS:
        ways[f"{space}, the shipped adapter"] = lambda space=space: lclip.shipped_adapter(space)(crops[space])
        if space in anchored:
            ways[f"{space}, the anchor"] = lambda space=space: anchored[space]
        ways[f"{space}, through pixels"] = lambda space=space: crops[f"{space} through"]
    number = len(set(crops["picture"].tolist()))
    return (
        f"Latents of other VAEs at {SMALL} px as SDXL's. {len(crops['sdxl'])} crops of {number} test "
        f"pictures, {CAVEAT}. {MEANING}\n\n"
        + table(("way", *COLUMNS), _rows(ways, crops["sdxl"], crops["picture"], sdxl))
        + "\n\nThe anchor is SD-Latent-Interposer's architecture, "
        f"{ANCHOR_WIDTH} wide with {ANCHOR_BLOCKS} blocks as its published files are, learnt as "
        "`python -m benchmarks.real maps` learns today, in as many seconds as the shipped adapter had, which "
        "is older: fewer crops, and AdamW. What else the machine did then and now is in those seconds.\n\n"
        + gate(run, cache_folder())
    )


def _anchor(run: Run, space: str, crops: Latents) -> Tensor:
    """What the anchor gives for the test crops."""

    def job() -> dict[str, np.ndarray]:
        cache, number = cache_folder(), run.choose(1, 0)
        train, dev = (
            load_crops(cache, split, n if number else 2, (space,), run.say) for split, n in SEEN.items()
        )
        figures = lclip.shipped_adapter(space).figures
        seconds = figures.seconds if figures and number else 1.0
        anchor = learn_anchor(PLANS[space], train, dev, seconds, run.say)
        with torch.inference_mode():
            return {"z": anchor(crops[space]).numpy()}

    return torch.from_numpy(run.part(f"anchor {space}", job)["z"])


def _found(load: Callable[[Path], Latents]) -> tuple[Latents, Taesd]:
    """What is measured on, and SDXL's TAESD; or Skipped, and why."""
    try:
        return load(cache_folder()), load_taesd("sdxl")
    except FileNotFoundError as missing:
        raise Skipped("there are no pictures; `make pictures` fetches them") from missing
    except TinyMissing as missing:
        raise Skipped(str(missing)) from missing


@torch.inference_mode()
def _rows(
    ways: Mapping[str, Callable[[], Tensor]], native: Tensor, pictures: Tensor, sdxl: Taesd
) -> list[list[str]]:
    """What each way keeps of the native latents. pictures: which each is of, [N]."""
    owners, shown = pictures.numpy(), sdxl.decode(native)
    rows = []
    for way, job in ways.items():
        z = job()
        errors = (z - native).square().mean((1, 2, 3)).numpy() / float(native.var())
        kept = (z.std((0, 2, 3)) / native.std((0, 2, 3))).tolist()
        noise = (sdxl.decode(z) - shown).square().mean((1, 2, 3))
        rows.append(
            [
                way,
                bootstrap(errors, owners).text(digits=3),
                ", ".join(f"{share:.2f}" for share in kept),
                bootstrap(-10 * np.log10(noise.numpy()), owners).text(digits=1),
            ]
        )
    return rows
