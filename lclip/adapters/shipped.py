"""Adapters and size maps that come with the library: other models' latents, and larger ones, read as SDXL's.

Learned on free pictures through tiny autoencoders that imitate the real VAEs (TAESD); docs/adapters.md says
how well, and how to make them again.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ..latents.checks import check_form
from ..latents.fitting import fit
from ..latents.reader import NativeSize
from ..latents.spaces import space_named
from .adapter import Adapter
from .files import load_adapter

FOLDER = Path(__file__).parent / "weights"
SHIPPED = {
    "flux": "flux-to-sdxl.safetensors",
    "flux2": "flux2-to-sdxl.safetensors",
    "sd3": "sd3-to-sdxl.safetensors",
    "sd1.5": "sd1.5-to-sdxl.safetensors",
}
"""Files of the adapters to SDXL's latents, by the space that they read."""
MAPS = {"sdxl": "sdxl-half.safetensors"}
"""Files of the size maps, by the space of their latents."""


def shipped_adapter(source: str, device: torch.device | str = "cpu") -> Adapter:
    """The adapter from a space to SDXL's latents, one of the caller's own. ValueError for another name.

    Called with raw latents of that space, [B, C, h, w], it gives raw SDXL latents [B, 4, H, W] of the same
    picture.
    """
    if source not in SHIPPED:
        raise ValueError(
            f"no adapter from {source!r} to SDXL's latents comes with the library; expected one of "
            f"{', '.join(SHIPPED)}. Train one: lclip.train_adapter, or the node Train Latent Adapter."
        )
    with torch.inference_mode(False):
        return load_adapter(FOLDER / SHIPPED[source], device)


@cache
def size_map(space: str, device: torch.device, dtype: torch.dtype = torch.float32) -> Adapter:
    """The map that halves latents of a space, kept for each device and precision.

    ValueError where none is shipped.
    """
    if space not in MAPS:
        raise ValueError(f"no size map for {space!r} is shipped; there is one for {', '.join(MAPS)}")
    with torch.inference_mode(False):
        return load_adapter(FOLDER / MAPS[space], device).to(dtype)


def fit_latents(z: Tensor, space: str = "sdxl", native: int = 64) -> Tensor:
    """What the size rule "fit" gives, without a model: raw latents [B, C, H, W] -> [B, V, C, native, native].

    Square views, along the longer side, of the latents that the same picture would have had, had its shorter
    side been encoded at the native size; differentiable. One frame each, [B, C, 1, H, W], is as good.
    ValueError for an unknown space, or for what is no batch of its latents.
    """
    if not isinstance(native, int) or native < 1:
        raise ValueError(f"native is {native!r}; expected the model's own size in cells, such as 64")
    reader = NativeSize(space_named(space), native)
    return fit(check_form(z, reader.channels, space, "the size map"), reader)
