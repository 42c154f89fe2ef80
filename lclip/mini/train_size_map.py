"""The mini world's size map: the latents of a picture at half its size, for the size rule "fit".

Learnt as the adapters are, from what the way through pixels gives: decoded, shrunk, and encoded again.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..adapters.adapter import LatentAdapter
from ..adapters.bridge import resized
from ..adapters.encoding import EncodedPictures
from ..adapters.training import AdapterSettings, train_adapter
from ..latents.resampling import resample
from ..model.latent_clip import LatentCLIP
from .drawing import render, sample_scenes
from .scenes import Scene
from .train_vae import to_pixels
from .vae import FACTOR, MiniVAE

NATIVE = 64  # pixels
SIDES = (128, 96, 112)  # of the larger pictures
SCENES, SEED = 1500, 81
SETTINGS = AdapterSettings(steps=1500, batch=32, width=48, depth=2, shrink=2, seed=SEED, spread_weight=0.0)


@torch.no_grad()
def draw_sizes(vae: MiniVAE, number: int = SCENES) -> EncodedPictures:
    """Scenes drawn larger, as the rule brings them to the map, and at the native size."""
    parts: list[tuple[Tensor, ...]] = []
    for index, scene in enumerate(sample_scenes(number, SEED)):
        large = vae.encode(_pixels(scene, SIDES[index % len(SIDES)]))
        pixels = (vae.decode(large) + 1) / 2
        parts.append(
            (
                resample(large, 2 * NATIVE // FACTOR, 2 * NATIVE // FACTOR),
                vae.encode(_pixels(scene, NATIVE)),
                torch.tensor([index]),
                vae.encode(resized(pixels, NATIVE, NATIVE) * 2 - 1),
            )
        )
    return EncodedPictures(*(torch.cat(each) for each in zip(*parts, strict=True)))


def train_size_map(vae: MiniVAE, model: LatentCLIP, steps: int | None = None) -> LatentAdapter:
    """Learn to halve the mini world's latents. steps: fewer, on few scenes, to try the pipeline."""
    if (space := model.config.space) is None:
        raise ValueError(f"{model.config.latent_space!r} is no known latent space; import lclip.mini")
    settings = SETTINGS if steps is None else replace(SETTINGS, steps=steps)
    return train_adapter(model, space, draw_sizes(vae, SCENES if steps is None else 40), settings)


def _pixels(scene: Scene, side: int) -> Tensor:
    """A scene as the VAE takes it: [1, 3, side, side] in -1..1."""
    return to_pixels(np.stack([render(scene, side, side)]))
