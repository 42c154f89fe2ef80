"""Training of the mini VAE on drawn scenes, some of them enlarged so that bigger pictures work too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..training.loop import FitSettings, fit
from .drawing import render, render_batch, sample_scenes
from .scenes import CANVAS
from .vae import FACTOR, RAW_STD, TWIN_STD, MiniVAE, twin_vae


@dataclass(frozen=True)
class Recipe:
    """One VAE of the world: how it is made, trained and scaled. name: of its checkpoint."""

    name: str
    make: Callable[[], MiniVAE]
    settings: FitSettings
    scene_seed: int
    raw_std: float


VAE = Recipe("vae", MiniVAE, FitSettings(3400, 2e-3, ema_decay=0.998, seed=1), 11, RAW_STD)
# Other pictures, another start and half the width: what the two have in common is what pictures are like.
TWIN = Recipe("vae16", twin_vae, FitSettings(3000, 3e-3, ema_decay=0.998, seed=6), 61, TWIN_STD)
BATCH = 36
ENLARGED_BATCH = 4
SCENES = 24_000
ENLARGED_SCENES = 400
POSTERIOR_STD = 0.05  # of the noise on latents of about unit std
PRIOR_WEIGHT = 1e-3
EDGE_WEIGHT = 1.0


def train_vae(work: Path, steps: int | None = None, recipe: Recipe = VAE) -> MiniVAE:
    """Train, then scale the raw latents to the recipe's std; keeps a resumable checkpoint under `work`."""
    torch.manual_seed(recipe.settings.seed)
    pictures = render_batch(sample_scenes(SCENES, seed=recipe.scene_seed))
    enlarged = [
        render(scene, CANVAS * factor, CANVAS * factor)
        for factor in (2, 3, 4)
        for scene in sample_scenes(ENLARGED_SCENES, seed=recipe.scene_seed + 1 + factor)
    ]
    # channels-last convolutions are several times faster on a CPU
    vae = recipe.make().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        batch = np.concatenate([pictures[rng.integers(len(pictures), size=BATCH)], _crops(enlarged, rng)])
        return vae_loss(vae, _flip(to_pixels(batch), rng))

    average = fit(vae, loss_of, recipe.settings.shortened(steps), work / f"{recipe.name}.pt")
    with torch.no_grad():
        unit = average.encode(to_pixels(pictures[:1000])) - average.shift
        average.fold_scale(recipe.raw_std / float(unit.std()))
    return average.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]


def vae_loss(vae: MiniVAE, pixels: torch.Tensor) -> torch.Tensor:
    """Absolute error of pixels and of their differences (edges), plus a weak pull to a unit prior."""
    latents = vae.encode(pixels)
    decoded = vae.decode(latents + POSTERIOR_STD * torch.randn_like(latents))
    latents = latents - vae.shift
    error = decoded - pixels
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return error.abs().mean() + EDGE_WEIGHT * edges + PRIOR_WEIGHT * latents.square().mean()


def to_pixels(pictures: np.ndarray) -> torch.Tensor:
    """uint8 [N, H, W, 3] to channels-last float pixels [N, 3, H, W] in -1..1."""
    pixels = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    return pixels.contiguous(memory_format=torch.channels_last)


def to_pictures(pixels: torch.Tensor) -> np.ndarray:
    """Float pixels [N, 3, H, W] in -1..1 to uint8 [N, H, W, 3]."""
    scaled = (pixels.detach().clamp(-1, 1) + 1.0) * 127.5
    return scaled.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def _crops(pictures: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    chosen = [pictures[index] for index in rng.integers(len(pictures), size=ENLARGED_BATCH)]
    crops = []
    for picture in chosen:
        top, left = rng.integers(0, picture.shape[0] - CANVAS + 1, size=2) // FACTOR * FACTOR
        crops.append(picture[top : top + CANVAS, left : left + CANVAS])
    return np.stack(crops)


def _flip(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    return pixels.flip(3) if rng.random() < 0.5 else pixels
