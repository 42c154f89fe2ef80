"""The mini world's 16-channel twin: another VAE, and the generator of the world in that VAE's latents.

What the generator knows of words, shapes and noise is the 4-channel generator's, as it is. New are a way in
(four directions of the 16-channel noise are what it takes for its own noise) and a way out (a small network
from its predicted picture to 16 channels), the latter trained as the generator was: as a rectified flow, on
pictures that the twin's VAE encoded.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..adapters.adapter import AdapterShape, LatentAdapter
from ..latents.spaces import space_named
from .generator import CHANNELS, GRID, SMALLEST_TIME, Denoiser
from .vae import RAW_STD, TWIN_CHANNELS, TWIN_SHIFT, TWIN_STD

HEAD_WIDTH, HEAD_DEPTH = 40, 2


class TwinWays(nn.Module):
    """The two new parts: what the twin's file holds.

    mix: four orthonormal directions of the 16 channels, [4, 16]; `mix @ clean` is about the 4-channel latents
    times `gain`, both in unit scale. enter: a trained correction of what the generator sees before the end
    of the noise, from x and t x.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.eye(CHANNELS, TWIN_CHANNELS), requires_grad=False)
        self.gain = nn.Parameter(torch.ones(()), requires_grad=False)
        self.enter = nn.Conv2d(2 * TWIN_CHANNELS, CHANNELS, 3, padding=1)
        nn.init.zeros_(self.enter.weight)
        nn.init.zeros_(self.enter.bias)  # pyright: ignore[reportArgumentType]
        shape = AdapterShape(space_named("mini"), space_named("mini-16"), HEAD_WIDTH, HEAD_DEPTH)
        self.head = LatentAdapter(shape)

    def lift(self, noise: Tensor, rest: Tensor) -> Tensor:
        """Noise [B, 16, 8, 8] that the generator takes for `noise` [B, 4, 8, 8]; rest: the other directions.

        Standard normal where both are.
        """
        inside = torch.einsum("cd,bdhw->bchw", self.mix, rest)
        return rest + torch.einsum("cd,bchw->bdhw", self.mix, noise - inside)


class TwinDenoiser(nn.Module):
    """Velocity of the twin's unit-scale latents: x [B, 16, 8, 8], t [B] in 0..1, context [B, L, D]."""

    def __init__(self, trunk: Denoiser, ways: TwinWays) -> None:
        super().__init__()
        self.trunk, self.ways = trunk, ways

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        if x.shape[1:] != (TWIN_CHANNELS, GRID, GRID):
            raise ValueError(
                f"the mini world's twin makes pictures of 64x64 pixels, latents [B, {TWIN_CHANNELS}, {GRID}, "
                f"{GRID}], got {list(x.shape)}; set width and height of the empty latent to 64"
            )
        clean = self.translate(self.predicted(x, t, context))
        return (x - clean) / t.clamp(min=SMALLEST_TIME).view(-1, 1, 1, 1)

    def predicted(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """The 4-channel generator's picture for these latents, [B, 4, 8, 8] in unit scale.

        In the four directions x is about (1 - t) gain clean + t noise: divided by t + gain (1 - t), it is
        what the 4-channel generator was trained on, at another time. Pure noise (t = 1) needs no correction.
        """
        at = t.view(-1, 1, 1, 1)
        seen = torch.einsum("cd,bdhw->bchw", self.ways.mix, x)
        seen = seen + (1 - at) * self.ways.enter(torch.cat([x, at * x], dim=1))
        total = t + self.ways.gain * (1 - t)
        seen, time = seen / total.view(-1, 1, 1, 1), t / total
        return seen - time.clamp(min=SMALLEST_TIME).view(-1, 1, 1, 1) * self.trunk(seen, time, context)

    def translate(self, clean: Tensor) -> Tensor:
        """The way out: 4-channel to 16-channel pictures, both in unit scale."""
        return (self.ways.head(clean * RAW_STD) - TWIN_SHIFT) / TWIN_STD
