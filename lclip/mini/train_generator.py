"""Training of the one-step generator: a rectified flow on a fixed pairing of noise and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..model.tokenizer import WordTokenizer
from ..training.loop import FitSettings, fit
from .drawing import render_batch
from .generator import Denoiser, TextEncoder
from .pairing import Draw, PairedNoise, draw_pair
from .scenes import Content, Scene, caption, random_content, split_of, vague
from .train_vae import to_pixels
from .vae import RAW_STD, MiniVAE

SETTINGS = FitSettings(steps=5500, learning_rate=2e-3, ema_decay=0.998, seed=3)
BATCH = 256
PAIRS = 48_000
CHUNK = 200  # pictures that are encoded at once
WORDLESS_SHARE = 0.04  # of captions left empty, for guidance above 1
ONE_STEP_SHARE = 0.6  # of the items at t = 1, pure noise


@dataclass
class Pairs:
    """Caption tokens, clean latents, and the source of the noises that belong to them."""

    ids: torch.Tensor  # [N, L]
    latents: torch.Tensor  # [N, channels, 8, 8] in unit scale
    noise: PairedNoise


class Generator(nn.Module):
    """The text encoder and the denoiser, as they are trained together."""

    def __init__(self, vocabulary_size: int):
        super().__init__()
        self.text_encoder = TextEncoder(vocabulary_size)
        self.denoiser = Denoiser()


def draw_pairs(
    vae: MiniVAE, words: WordTokenizer, number: int = PAIRS, seed: int = 31, raw_std: float = RAW_STD
) -> Pairs:
    """Noises, captions and the pictures that belong to them; nothing held out is asked for or shown."""
    rng = np.random.default_rng(seed)
    captions, draws, latents = [], [], []
    for first in range(0, number, CHUNK):
        spoken = [vague(random_content(rng, "train"), rng) for _ in range(min(CHUNK, number - first))]
        scenes, drawn = zip(*(draw_shown(content, rng) for content in spoken), strict=True)
        with torch.no_grad():
            latents.append((vae.encode(to_pixels(render_batch(scenes))) - vae.shift) / raw_std)
        captions += ["" if rng.random() < WORDLESS_SHARE else caption(content) for content in spoken]
        draws += drawn
    return Pairs(words.encode(captions), torch.cat(latents).contiguous(), PairedNoise(draws))


def draw_shown(content: Content, rng: np.random.Generator) -> tuple[Scene, Draw]:
    """A noise for a content, and the scene that belongs to it.

    What a vague content leaves open is the noise's to choose; noises that choose a held-out one are passed
    over.
    """
    while True:
        scene, drawn = draw_pair(content, rng.standard_normal((4, 8, 8), dtype=np.float32), rng)
        if split_of(scene.content) == "train":
            return scene, drawn


def train_generator(pairs: Pairs, vocabulary_size: int, work: Path, steps: int | None = None) -> Generator:
    """Train text encoder and denoiser; keeps a resumable checkpoint under `work`."""
    torch.manual_seed(SETTINGS.seed)
    generator = Generator(vocabulary_size)

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        chosen = rng.integers(len(pairs.ids), size=BATCH)
        noise = torch.from_numpy(pairs.noise.sample(chosen, rng))
        times = np.where(rng.random(BATCH) < ONE_STEP_SHARE, 1.0, rng.random(BATCH)).astype(np.float32)
        return flow_loss(generator, noise, torch.from_numpy(times), pairs.ids[chosen], pairs.latents[chosen])

    average = fit(generator, loss_of, SETTINGS.shortened(steps), work / "generator.pt")
    return average.requires_grad_(False)


def flow_loss(
    generator: Generator, noise: torch.Tensor, t: torch.Tensor, ids: torch.Tensor, clean: torch.Tensor
) -> torch.Tensor:
    """Error of the predicted x0 at time t, absolute plus squared: the absolute part keeps edges sharp.

    An error of the velocity (Liu et al. 2022, equation 1) is this one divided by t.
    """
    ids = ids[:, : int((ids != 0).sum(1).max())]
    time = t.view(-1, 1, 1, 1)
    noisy = (1 - time) * clean + time * noise
    predicted = noisy - time * generator.denoiser(noisy, t, generator.text_encoder(ids))
    error = predicted - clean
    return error.abs().mean() + 0.5 * error.square().mean()
