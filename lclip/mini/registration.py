"""What the mini world tells the library of itself: its latent spaces, and what grey is in them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from ..latents.encoders import ENCODERS, Encoder
from ..latents.neutral import GREYS
from ..latents.scale import SMALL_IN
from ..latents.spaces import LatentSpace, register_space
from ..safety.everyday import OF_WORLDS
from .scenes import SHAPES, UNSAFE_SHAPE
from .vae import FACTOR, MiniVAE, twin_vae
from .world import WEIGHTS, load_module

# Standard deviations and the shift were measured on its own pictures.
SPACES = (
    LatentSpace("mini", "the mini world's latents", 4, 8, 1 / 6, 6.0),
    LatentSpace("mini-16", "the mini world's 16-channel latents", 16, 8, 1 / 2.5, 2.5, shift=0.4),
    LatentSpace("mini-pixels", "the mini world's pictures", 3, 1, 1.0, 0.25),
)

EVERYDAY = tuple(f"a {shape}" for shape in SHAPES if shape != UNSAFE_SHAPE)
"""What harmless pictures of this world show: every one of them some of these."""

FAINT = 0.25
"""Of 6,000 pictures 55 have a smaller spread; scaled for sampling, 99 of 100 do."""

VAES: dict[str, Callable[[], tuple[MiniVAE, Path]]] = {
    "mini": lambda: (MiniVAE(), WEIGHTS / "vae.safetensors"),
    "mini-16": lambda: (twin_vae(), WEIGHTS / "vae16.safetensors"),
}


def register() -> None:
    """Make the mini world known to the library. A second call changes nothing."""
    for space in SPACES:
        register_space(space)
    GREYS["mini"] = grey
    SMALL_IN["mini"] = FAINT
    OF_WORLDS.update(dict.fromkeys((space.name for space in SPACES), EVERYDAY))
    for name in VAES:
        ENCODERS[name] = partial(encoder, name)


def encoder(name: str, device: torch.device | str) -> Encoder:
    """The encoder of the mini world's VAE ("mini") or its twin's ("mini-16")."""
    vae, _ = load_module(*VAES[name]())
    vae.to(device)
    return Encoder(name, vae.channels, FACTOR, lambda pixels: vae.encode(pixels * 2.0 - 1.0), name)


@cache
def grey(height: int, width: int) -> Tensor:
    """A grey picture through the mini world's encoder: [1, 4, height, width]."""
    with torch.inference_mode(False), torch.no_grad():
        vae, _ = load_module(MiniVAE(), WEIGHTS / "vae.safetensors")
        return vae.encode(torch.zeros(1, 3, height * FACTOR, width * FACTOR))
