"""A second Latent-CLIP of the mini world, trained without a teacher: with captions, as the released ones.

Beside encoded latents of drawn pictures it sees generated ones, with the captions that they were asked for:
the generator shows another thing than its caption in a part of them, as pictures from the web do. The oracle
and the pixel CLIP have no part in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..model.latent_clip import LatentCLIP
from ..training.loop import fit
from .meaning import Facts
from .scenes import caption, random_content
from .train_clip import CONFIG, CYCLES, FAST, Pool, captions_loss, loss_on, speak, start
from .train_latent_clip import EPSILON, LATENT_NOISE, draw_noise
from .world import World

GENERATED = 32  # generated latents of a batch, contrasted among themselves
GENERATED_WEIGHT = 0.25  # of their loss: by its share of the batch
SEED = 6


def new_alone() -> LatentCLIP:
    """The untrained model."""
    return start(CONFIG, SEED)


def train_alone(
    world: World,
    pools: Callable[[int, float], tuple[Pool, Tensor]],
    work: Path,
    steps: int | None = None,
) -> LatentCLIP:
    """Train on captions alone; keeps resumable checkpoints under `work`.

    world: its generator makes latents, its latent_clip, from `new_alone`, is trained. pools: seed and share
    without names of colours -> pictures and their raw latents [N, 4, 8, 8].
    """
    model = world.latent_clip
    for number, cycle in enumerate(CYCLES):
        pool, encoded = pools(cycle.seed, cycle.nameless)
        drawn = loss_on(model, pool, encoded, EPSILON if cycle.adversarial else None, LATENT_NOISE)
        loss_of = _with_generated(drawn, world) if cycle.adversarial else drawn
        settings = replace(cycle.settings.shortened(steps), seed=cycle.settings.seed + SEED)
        average = fit(model, loss_of, settings, work / f"alone_{number}.pt", FAST)
        model.load_state_dict(average.state_dict())
    return model.eval().requires_grad_(False)


def _with_generated(
    drawn: Callable[[np.random.Generator], Tensor], world: World
) -> Callable[[np.random.Generator], Tensor]:
    """A loss with that of generated latents added, whose pictures are taken to show what was asked for."""

    def loss_of(rng: np.random.Generator) -> Tensor:
        loss = drawn(rng)
        asked = [random_content(rng, "train") for _ in range(GENERATED)]
        with torch.no_grad():
            latents = world.generate(
                [caption(content) for content in asked], draw_noise(rng, (GENERATED, 4, 8, 8))
            )
        sayings = list(zip(*(speak(content, rng) for content in asked), strict=True))
        generated = captions_loss(world.latent_clip, latents, sayings, Facts.of(asked), rng, EPSILON)
        return loss + GENERATED_WEIGHT * generated

    return loss_of
