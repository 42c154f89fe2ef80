"""What the runs of a searching SAMPLER found, kept with it.

A SAMPLER is on its wire before it runs, so the node that makes it cannot hand out what it will find. The node
behind the sampling has both, the SAMPLER and the latents, and asks here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from ..latents import samples_of
from . import exits

KEPT = 8
"""So many runs of a SAMPLER are remembered."""

Result = TypeVar("Result")


class FixedNoise:
    """A NOISE of given values: wired into SamplerCustomAdvanced it starts from exactly these."""

    def __init__(self, noise: Tensor, seed: int) -> None:
        self.noise, self.seed = noise, seed

    def generate_noise(self, latent: dict[str, Any]) -> Tensor:
        wanted = tuple(samples_of(latent).shape)
        have = tuple(self.noise.shape)
        if wanted[:1] + wanted[2:] != have[:1] + have[2:]:
            raise ValueError(
                f"This noise was found for latents of shape {list(have)}; the latent image has shape "
                f"{list(wanted)}. Wire the latent image that the search ran on."
            )
        return self.noise


@dataclass(frozen=True)
class Find(Generic[Result]):
    """One run; what a guard of the model would not let out is grey, and its noise 0."""

    latents: Tensor
    """[ranks x B, C, H, W] raw latents, as they left: all first ones, then all second ones."""
    noises: list[FixedNoise]
    """By rank, each for the whole batch."""
    rewards: list[float]
    """Of every latent."""
    result: Result


class Finds(Generic[Result]):
    """The last runs of one SAMPLER."""

    def __init__(self) -> None:
        self.runs: deque[Find[Result]] = deque(maxlen=KEPT)

    @property
    def last(self) -> Find[Result] | None:
        return self.runs[-1] if self.runs else None

    def add(
        self,
        model: Any,
        latents: Tensor,
        noise: Tensor,
        rewards: Tensor,
        seeds: Sequence[int],
        result: Result,
    ) -> None:
        """Keep a run. model: that sampled. latents, noise: [ranks x B, ...] raw; seeds: one for every rank.

        A stochastic sampler draws on by the seed of a noise.
        """
        noise = exits.cleared_noise(model, latents, noise.cpu())
        parts = noise.split(len(noise) // len(seeds))
        noises = [FixedNoise(part, seed) for part, seed in zip(parts, seeds, strict=True)]
        self.runs.append(Find(exits.cleared(model, latents), noises, rewards.tolist(), result))

    def of(self, samples: Tensor) -> Find[Result]:
        """The run that these latents left. ValueError where it is none of them."""
        if not self.runs:
            raise ValueError(
                "This sampler has not run. Wire the same sampler into SamplerCustom or "
                "SamplerCustomAdvanced, and what that samples in here."
            )
        for run in reversed(self.runs):
            if _same(run.latents, samples):
                return run
        raise ValueError(
            f"These latents of shape {list(samples.shape)} are not what this sampler made in its last "
            f"{len(self.runs)} runs. Wire the output of the node that it samples in, with nothing in between."
        )


def _same(ours: Tensor, theirs: Tensor) -> bool:
    """But for rounding: scaled to and fro, and perhaps to half precision."""
    if ours.shape != theirs.shape:
        return False
    return torch.allclose(ours.float(), theirs.to(ours.device).float(), rtol=1e-3, atol=1e-3, equal_nan=True)
