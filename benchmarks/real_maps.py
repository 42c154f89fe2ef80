"""What the shipped maps keep of real pictures: other sizes, and other models' latents, through TAESD."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import lclip
from lclip.adapters.shipped import size_map
from lclip.statistics import bootstrap

from .harness import Run, Skipped, table
from .real.crops import LARGE, OTHERS, SMALL, Latents, load_crops
from .real.fetching import cache_folder
from .real.maps import ANCHOR_BLOCKS, ANCHOR_WIDTH, DEV, PLANS, TRAIN, learn_anchor
from .real.taesd import CAVEAT, Taesd, TinyMissing, load_taesd

CROPS = 40
SEEN = {"train": TRAIN, "dev": DEV}
ANCHORED = ("sd1.5", "sd3", "flux")  # as interposers are published for
COLUMNS = ("squared error", "std kept, by channel", "PSNR decoded, dB")


def sizes(run: Run) -> str:
    """SDXL's latents of a crop brought to half its size, by every way there is."""
    crops, sdxl = _given(run)
    large, native = crops["large"], crops["sdxl"]
    ways: dict[str, Callable[[], Tensor]] = {
        "bilinear, antialiased (resize, crops)": lambda: F.interpolate(
            large, scale_factor=0.5, mode="bilinear", antialias=True, align_corners=False
        ),
        "nearest": lambda: large[..., ::2, ::2],
        "2x2 mean": lambda: F.avg_pool2d(large, 2),
        "fit, the shipped map": lambda: size_map("sdxl", torch.device("cpu"))(large),
        "the way through pixels": lambda: crops["large through"],
    }
    return _told(f"{LARGE} px latents brought to {SMALL} px, SDXL.", ways, crops, native, sdxl)


def adapters(run: Run) -> str:
    """Other spaces' latents of a crop as SDXL's."""
    crops, sdxl = _given(run)
    anchored = {space: _anchor(run, space, crops) for space in ANCHORED}
    ways: dict[str, Callable[[], Tensor]] = {}
    for space in OTHERS:
        ways[f"{space}, the shipped adapter"] = lambda space=space: lclip.shipped_adapter(space)(crops[space])
        if space in anchored:
            ways[f"{space}, the anchor"] = lambda space=space: anchored[space]
        ways[f"{space}, through pixels"] = lambda space=space: crops[f"{space} through"]
    return (
        _told(f"Latents of other VAEs at {SMALL} px as SDXL's.", ways, crops, crops["sdxl"], sdxl)
        + "\n\nThe anchor is SD-Latent-Interposer's architecture, "
        f"{ANCHOR_WIDTH} wide with {ANCHOR_BLOCKS} blocks as its published files are, learnt from the same "
        "pictures with the same loss, in as many seconds as the shipped adapter had, those taken together "
        "with what else this machine did then and now."
    )


def _anchor(run: Run, space: str, crops: Latents) -> Tensor:
    """What the anchor gives for the test crops."""

    def job() -> dict[str, np.ndarray]:
        cache, number = cache_folder(), run.choose(1, 0)
        train, dev = (load_crops(cache, split, n if number else 2, say=run.say) for split, n in SEEN.items())
        figures = lclip.shipped_adapter(space).figures
        seconds = figures.seconds if figures and number else 1.0
        anchor = learn_anchor(PLANS[space], train, dev, seconds, run.say)
        with torch.inference_mode():
            return {"z": anchor(crops[space]).numpy()}

    return torch.from_numpy(run.part(f"anchor {space}", job)["z"])


def _given(run: Run) -> tuple[Latents, Taesd]:
    try:
        return load_crops(cache_folder(), "test", run.choose(CROPS, 2), say=run.say), load_taesd("sdxl")
    except FileNotFoundError as missing:
        raise Skipped("there are no pictures; `make pictures` fetches them") from missing
    except TinyMissing as missing:
        raise Skipped(str(missing)) from missing


@torch.inference_mode()
def _told(
    title: str, ways: dict[str, Callable[[], Tensor]], crops: Latents, native: Tensor, sdxl: Taesd
) -> str:
    pictures = crops["picture"].numpy()
    shown = sdxl.decode(native)
    rows = []
    for way, job in ways.items():
        z = job()
        errors = (z - native).square().mean((1, 2, 3)).numpy() / float(native.var())
        kept = (z.std((0, 2, 3)) / native.std((0, 2, 3))).tolist()
        noise = (sdxl.decode(z) - shown).square().mean((1, 2, 3))
        rows.append(
            (
                way,
                bootstrap(errors, pictures).text(digits=3),
                ", ".join(f"{share:.2f}" for share in kept),
                bootstrap(-10 * np.log10(noise.numpy()), pictures).text(digits=1),
            )
        )
    number = len(set(pictures.tolist()))
    return (
        f"{title} {len(native)} crops of {number} test photographs, {CAVEAT}. Error: |z - z'|^2 as a share "
        "of the variance of z', the latents of the same crop encoded at the smaller size by SDXL's VAE. "
        "PSNR: against z' decoded. Intervals over photographs.\n\n" + table(("way", *COLUMNS), rows)
    )
