"""What the shipped maps keep of real pictures: other sizes, and other models' latents, through TAESD."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import lclip
from lclip.adapters.adapter import Adapter
from lclip.latents.reader import NativeSize
from lclip.latents.size_rules import RULES
from lclip.statistics import bootstrap

from .harness import Run, Skipped, table
from .real.crops import OTHERS, SMALL, TEST, Latents, load_crops
from .real.fetching import cache_folder
from .real.maps import ANCHOR_BLOCKS, ANCHOR_WIDTH, DEV, PLANS, learn, learn_anchor, of_plan
from .real.sized import NATIVE, SHORTEST, SIZES, load_sized
from .real.taesd import CAVEAT, Taesd, TinyMissing, load_taesd
from .real_gate import gate

PHOTOGRAPHS = 12
ANCHORED, SECONDS = ("flux",), 240
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
    crops, sdxl = _found(lambda cache: load_crops(cache, "test", run.choose(TEST, 2), OTHERS, run.say))
    beside = {space: _side_by_side(run, space, crops) for space in ANCHORED}
    ways: dict[str, Callable[[], Tensor]] = {}
    for space in OTHERS:
        ways[f"{space}, the shipped adapter"] = lambda space=space: lclip.shipped_adapter(space)(crops[space])
        for way, z in beside.get(space, {}).items():
            ways[f"{space}, {way}"] = lambda z=z: z
        ways[f"{space}, through pixels"] = lambda space=space: crops[f"{space} through"]
    number = len(set(crops["picture"].tolist()))
    return (
        f"Latents of other VAEs at {SMALL} px as SDXL's. {len(crops['sdxl'])} crops of {number} test "
        f"pictures, {CAVEAT}. {MEANING}\n\n"
        + table(("way", *COLUMNS), _rows(ways, crops["sdxl"], crops["picture"], sdxl))
        + f"\n\nIn {SECONDS} seconds: learnt from the same crops by the same losses, on one core. "
        f"The anchor is SD-Latent-Interposer's architecture, {ANCHOR_WIDTH} wide with {ANCHOR_BLOCKS} blocks "
        "as its published files are.\n\n" + gate(run, cache_folder())
    )


def _side_by_side(run: Run, space: str, crops: Latents) -> dict[str, Tensor]:
    """What our architecture and the anchor's make of the test crops, both learnt in as many seconds."""
    found = {}
    for way, learner in (("ours", learn), ("the anchor", learn_anchor)):

        def job(learner: Callable[..., Adapter] = learner) -> dict[str, np.ndarray]:
            plan = PLANS[space] if not run.tiny else replace(PLANS[space], crops=2)
            train, dev = of_plan(plan, cache_folder(), run.say, run.choose(DEV, 2))
            adapter = learner(plan, train, dev, seconds=run.choose(SECONDS, 1), say=run.say)
            with torch.inference_mode():
                return {"z": adapter(crops[space]).numpy()}

        name = f"{way} in {SECONDS} seconds"
        found[name] = torch.from_numpy(run.part(f"{name} {space}", job)["z"])
    return found


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
