"""Training of the twin's generator: the ways into and out of the 4-channel one, as a rectified flow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..adapters.training import solve_linear, standardise
from ..training.loop import FitSettings, fit
from .generator import Denoiser, TextEncoder
from .train_generator import ONE_STEP_SHARE, Pairs
from .twin import TwinDenoiser, TwinWays
from .vae import RAW_STD, TWIN_CHANNELS, TWIN_SHIFT, TWIN_STD, MiniVAE

SETTINGS = FitSettings(steps=1200, learning_rate=3e-3, ema_decay=0.995, seed=7)
BATCH = 128
PAIRS = 8_000


def make_ways(vae: MiniVAE, twin: MiniVAE, pixels: Tensor) -> TwinWays:
    """Untrained ways whose directions are found on pictures that both VAEs encode, [N, 3, 64, 64]."""
    torch.manual_seed(SETTINGS.seed)
    ways = TwinWays()
    with torch.no_grad():
        raw, raw_twin = vae.encode(pixels), twin.encode(pixels)
        standardise(ways.head, raw, raw_twin)
        solve_linear(ways.head, raw, raw_twin, seed=SETTINGS.seed)
        mix, gain = _directions(raw / RAW_STD, (raw_twin - TWIN_SHIFT) / TWIN_STD)
        ways.mix.copy_(mix)
        ways.gain.copy_(gain)
    return ways


def _directions(clean: Tensor, clean_twin: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of the least-squares map from 16 to 4 channels, made orthonormal, and how much that gains.

    The nearest orthonormal rows are (A A^T)^(-1/2) A (Loewdin); the gain is the mean of (A A^T)^(-1/2).
    """
    x, y = (z.movedim(1, 0).flatten(1).cpu().double() for z in (clean_twin, clean))
    x = torch.cat([x, torch.ones_like(x[:1])])
    linear = torch.linalg.lstsq(x.T, y.T).solution.T[:, :-1]
    values, vectors = torch.linalg.eigh(linear @ linear.T)
    inverse_root = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    return (inverse_root @ linear).float(), values.rsqrt().mean().float()


def train_twin(
    ways: TwinWays, trunk: Denoiser, encoder: TextEncoder, pairs: Pairs, work: Path, steps: int | None = None
) -> TwinWays:
    """Train the ways, the generator between them frozen; keeps a resumable checkpoint under `work`.

    pairs: captions and noises with latents of the twin's VAE, in unit scale.
    """

    def loss_of(rng: np.random.Generator) -> Tensor:
        chosen = rng.integers(len(pairs.ids), size=BATCH)
        noise = torch.from_numpy(pairs.noise.sample(chosen, rng))
        rest = torch.from_numpy(
            rng.standard_normal((BATCH, TWIN_CHANNELS, *noise.shape[2:]), dtype=np.float32)
        )
        times = np.where(rng.random(BATCH) < ONE_STEP_SHARE, 1.0, rng.random(BATCH)).astype(np.float32)
        time = torch.from_numpy(times)
        clean = pairs.latents[chosen]
        mixed = (1 - time.view(-1, 1, 1, 1)) * clean + time.view(-1, 1, 1, 1) * ways.lift(noise, rest)
        denoiser = TwinDenoiser(trunk, ways)
        with torch.no_grad():
            context = encoder(pairs.ids[chosen])
        predicted = denoiser.predicted(mixed, time, context)
        error = denoiser.translate(predicted) - clean
        return error.abs().mean() + 0.5 * error.square().mean()

    average = fit(ways, loss_of, SETTINGS.shortened(steps), work / "generator16.pt")
    return average.requires_grad_(False)
