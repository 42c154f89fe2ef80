"""What the mini world tells the library of itself: its latent spaces, and what grey is in them."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from ..latents.spaces import LatentSpace, register_space
from ..latents.worlds import ENCODERS, GREYS, SIZE_MAPS, SMALL_IN
from ..safety.everyday import OF_WORLDS
from .words import SHAPES, UNSAFE_SHAPE

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..adapters.adapter import Adapter
    from ..latents.encoders import Encoder
    from .vae import MiniVAE

# Standard deviations and the shift were measured on its own pictures.
SPACES = (
    LatentSpace("mini", "the mini world's latents", 4, 8, 1 / 6, 6.0),
    LatentSpace("mini-16", "the mini world's 16-channel latents", 16, 8, 1 / 2.5, 2.5, shift=0.4),
    LatentSpace("mini-pixels", "the mini world's pictures", 3, 1, 1.0, 0.25),
)

EVERYDAY = tuple(f"a {shape}" for shape in SHAPES if shape != UNSAFE_SHAPE)
"""What harmless pictures of this world show: every one of them some of these."""

FAINT = 0.25
"""Of 6,000 pictures none has a smaller spread; scaled for sampling, 996 of 1,000 do."""

VAES = ("mini", "mini-16")


def register() -> None:
    """Make the mini world known to the library. A second call changes nothing."""
    for space in SPACES:
        register_space(space)
    GREYS["mini"] = grey
    SIZE_MAPS["mini"] = halve
    SMALL_IN["mini"] = FAINT
    OF_WORLDS.update(dict.fromkeys((space.name for space in SPACES), EVERYDAY))
    for name in VAES:
        ENCODERS[name] = partial(encoder, name)


def encoder(name: str, device: torch.device | str) -> Encoder:
    """The encoder of the mini world's VAE ("mini") or its twin's ("mini-16")."""
    from ..latents.encoders import Encoder
    from .vae import FACTOR

    vae = _vae(name)
    vae.to(device)
    return Encoder(
        name,
        vae.channels,
        FACTOR,
        lambda pixels: vae.encode(pixels * 2.0 - 1.0),
        name,
        lambda z: ((vae.decode(z) + 1.0) / 2.0).clamp(0.0, 1.0),
    )


@cache
def halve(device: torch.device, dtype: torch.dtype) -> Adapter:
    """Its size map, kept for each device and precision."""
    import torch

    from ..adapters.files import load_adapter
    from .world import HALF, WEIGHTS

    with torch.inference_mode(False):
        return load_adapter(WEIGHTS / HALF, device).to(dtype)


@cache
def grey(height: int, width: int) -> Tensor:
    """A grey picture through the mini world's encoder: [1, 4, height, width]."""
    import torch

    from .vae import FACTOR

    with torch.inference_mode(False), torch.no_grad():
        return _vae("mini").encode(torch.zeros(1, 3, height * FACTOR, width * FACTOR))


def _vae(name: str) -> MiniVAE:
    from .vae import MiniVAE, twin_vae
    from .world import WEIGHTS, load_module

    made, file = (MiniVAE(), "vae") if name == "mini" else (twin_vae(), "vae16")
    vae, _ = load_module(made, WEIGHTS / f"{file}.safetensors")
    return vae
