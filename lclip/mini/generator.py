"""The mini world's text-to-latent generator: a small transformer trained as a rectified flow.

x_t = (1 - t) x0 + t noise, the network predicts the velocity noise - x0 (Liu et al. 2022, "Flow Straight
and Fast", equation 1; the convention of flow models in ComfyUI). The pairing of noise and picture is fixed
in training (`pairing.py`), as after their "reflow", so paths are nearly straight and one step is enough.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

CHANNELS = 4
GRID = 8
CONTEXT_LENGTH = 20


class Attention(nn.Module):
    """Multi-head self-attention, [B, N, D] -> [B, N, D]; `padding` [B, N] is True where to look."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
        q, k, v = (
            self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )  # each [B, heads, N, d]
        mask = None if visible is None else visible[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm transformer block whose norms are scaled and shifted by the time (DiT's adaLN)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm_1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.modulation = nn.Parameter(torch.zeros(4, width))

    def forward(
        self, x: torch.Tensor, time: torch.Tensor | None = None, visible: torch.Tensor | None = None
    ) -> torch.Tensor:
        shifts = self.modulation if time is None else self.modulation + time  # [B, 4, D]
        shift_1, scale_1, shift_2, scale_2 = shifts[..., None, :, :].unbind(-2)
        x = x + self.attention(self.norm_1(x) * (1 + scale_1) + shift_1, visible)
        return x + self.mlp(self.norm_2(x) * (1 + scale_2) + shift_2)


class TextEncoder(nn.Module):
    """Token ids [B, L] to a context [B, L, D]; padding tokens give zeros, which the denoiser ignores."""

    def __init__(
        self,
        vocabulary_size: int,
        width: int = 160,
        layers: int = 2,
        heads: int = 5,
        context_length: int = CONTEXT_LENGTH,
    ):
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary_size, width)
        self.positions = nn.Parameter(torch.randn(context_length, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        visible = ids != 0
        x = self.token_embedding(ids) + self.positions[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, visible=visible)
        return self.norm(x) * visible[..., None]


class Denoiser(nn.Module):
    """Velocity of unit-scale latents: x [B, 4, h, w], t [B] in 0..1, context [B, L, D] -> [B, 4, h, w].

    Text and latent tokens share one sequence. Other sizes than 8x8 interpolate the position tables.
    """

    def __init__(self, width: int = 160, layers: int = 5, heads: int = 5):
        super().__init__()
        self.width = width
        # each cell has its own input map, so that sums over the whole noise are one step away
        self.embed = nn.Parameter(torch.randn(CHANNELS, width, GRID, GRID) * 0.3)
        self.positions = nn.Parameter(torch.randn(width, GRID, GRID) * 0.1)
        self.context_in = nn.Linear(width, width)
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, 4 * width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, CHANNELS)

    def forward(self, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        tokens = torch.einsum("bchw,cdhw->bdhw", x, self._at(self.embed, height, width))
        tokens = (tokens + self._at(self.positions[None], height, width)).flatten(2).transpose(1, 2)
        visible = F.pad(context.abs().sum(-1) > 0, (height * width, 0), value=True)
        sequence = torch.cat([tokens, self.context_in(context)], dim=1)  # [B, h*w + L, D]
        time = self.time(time_features(t)).unflatten(-1, (4, self.width))
        for block in self.blocks:
            sequence = block(sequence, time, visible)
        clean = self.out(self.norm(sequence[:, : height * width]))  # the predicted x0, as tokens
        clean = clean.transpose(1, 2).unflatten(2, (height, width))
        return (x - clean) / t.clamp(min=0.02).view(-1, 1, 1, 1)

    def _at(self, table: torch.Tensor, height: int, width: int) -> torch.Tensor:
        if (height, width) == (GRID, GRID):
            return table
        return F.interpolate(table, (height, width), mode="bilinear")


def time_features(t: torch.Tensor) -> torch.Tensor:
    """Sines and cosines of the time [B] in 0..1, [B, 64]."""
    rates = torch.exp(torch.linspace(0.0, math.log(200.0), 32, device=t.device, dtype=t.dtype))
    angles = t[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
