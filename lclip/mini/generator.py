"""The mini world's text-to-latent generator: a small network trained as a rectified flow.

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
CELLS = CHANNELS * GRID * GRID
CONTEXT_LENGTH = 20
TEXT_WIDTH = 96
SLOTS = 4  # hidden vectors per picture: three objects and the ground
QUERIES = 4  # what each slot asks of the text
SMALLEST_TIME = 0.02  # under it the velocity is taken as if at this time


class TextBlock(nn.Module):
    """Pre-norm transformer block, [B, L, D] -> [B, L, D]; `visible` [B, L] is True where to look."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm_1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None, None, :])
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm_2(x))


class TextEncoder(nn.Module):
    """Token ids [B, L] to a context [B, L, D]; padding tokens give zeros, which the denoiser ignores."""

    def __init__(self, vocabulary_size: int, width: int = TEXT_WIDTH, layers: int = 2, heads: int = 4):
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary_size, width)
        self.positions = nn.Parameter(torch.randn(CONTEXT_LENGTH, width) * 0.3)
        self.blocks = nn.ModuleList(TextBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        visible = ids != 0
        x = self.token_embedding(ids) + self.positions[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, visible)
        return self.norm(x) * visible[..., None]


class ResidualMLP(nn.Module):
    """Two layers around a residual connection, [..., D] -> [..., D]."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(self.norm(x))


class Denoiser(nn.Module):
    """Velocity of unit-scale latents: x [B, 4, 8, 8], t [B] in 0..1, context [B, L, D] -> [B, 4, 8, 8].

    A picture is a sum of slots: each reads the noise and the text for itself, and all share their layers, so
    that what a star looks like is learnt once. At this size that is far cheaper than cell by cell.
    """

    def __init__(self, width: int = 288, layers: int = 3):
        super().__init__()
        self.latents_in = nn.Linear(CELLS, SLOTS * width)
        self.queries = nn.Linear(TEXT_WIDTH, SLOTS * QUERIES, bias=False)
        self.text_in = nn.Linear(QUERIES * TEXT_WIDTH, width)
        self.time_in = nn.Linear(64, width)
        self.blocks = nn.ModuleList(ResidualMLP(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, CELLS)

    def forward(self, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        if x.shape[1:] != (CHANNELS, GRID, GRID):
            raise ValueError(
                f"the mini world makes pictures of 64x64 pixels, latents [B, {CHANNELS}, {GRID}, {GRID}], "
                f"got {list(x.shape)}; set width and height of the empty latent to 64"
            )
        hidden = self.latents_in(x.flatten(1)).unflatten(1, (SLOTS, -1)) + self.text_in(self.read(context))
        hidden = hidden + self.time_in(time_features(t))[:, None]  # [B, SLOTS, D]
        for block in self.blocks:
            hidden = block(hidden)
        clean = self.out(self.norm(hidden)).sum(1).view_as(x)  # the predicted x0
        return (x - clean) / t.clamp(min=SMALLEST_TIME).view(-1, 1, 1, 1)

    def read(self, context: torch.Tensor) -> torch.Tensor:
        """Attend to the text, [B, L, D] -> [B, SLOTS, QUERIES * D]; all-zero tokens are padding."""
        padding = (context.abs().sum(-1) == 0)[..., None]
        weights = self.queries(context).masked_fill(padding, -1e4).softmax(dim=1)  # [B, L, SLOTS * QUERIES]
        read = torch.einsum("blq,bld->bqd", weights, context)
        return read.unflatten(1, (SLOTS, QUERIES)).flatten(2)


def time_features(t: torch.Tensor) -> torch.Tensor:
    """Sines and cosines of the time [B] in 0..1, [B, 64]."""
    rates = torch.exp(torch.linspace(0.0, math.log(200.0), 32, device=t.device, dtype=t.dtype))
    angles = t[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
