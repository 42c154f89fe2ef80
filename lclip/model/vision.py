"""The image tower: a ViT over patches of latents."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..latents.resampling import resample
from .config import LatentCLIPConfig
from .transformer import Transformer


def embed_patches(z: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A convolution whose stride is its kernel, as one matrix product.

    z: [B, C, h, w]. weight: [D, C, p, q]. bias: [D] -> [B, D, h // p, w // q].
    On CUDA torch by default rounds what a convolution of float32 reads to TF32, 3e-4 off, and a matrix
    product not.
    """
    height, width = weight.shape[-2:]
    rows, columns = z.shape[-2] // height, z.shape[-1] // width
    patches = z[..., : rows * height, : columns * width]
    patches = patches.unflatten(-1, (columns, width)).unflatten(-3, (rows, height))
    patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3)  # [B, rows, columns, C * p * q]
    return F.linear(patches, weight.flatten(1), bias).movedim(-1, 1)


class PatchEmbedding(nn.Conv2d):
    """A convolution over patches that lie side by side, in its input's type, in full float32 on CUDA too."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        weight = weight.to(input)
        if input.device.type != "cuda":
            return super()._conv_forward(input, weight, bias)
        return embed_patches(input, weight, bias)


def _patch_embedding(operations: Any) -> type[nn.Conv2d]:
    """`PatchEmbedding` with the weights of a host's own convolution."""
    if operations is nn:
        return PatchEmbedding
    return type("PatchEmbedding", (operations.Conv2d, PatchEmbedding), {})


def _norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """A layer norm in the type of its input; a host's own casts by itself."""
    if type(norm) is not nn.LayerNorm or norm.weight.dtype == x.dtype:
        return norm(x)
    return F.layer_norm(x, norm.normalized_shape, norm.weight.to(x), norm.bias.to(x), norm.eps)


class VisionTower(nn.Module):
    """A ViT over latent patches with a class token, as in CLIP (arXiv 2103.00020).

    Its functions take latents in at least float32, and `dtype`: what the blocks compute in (None: the same).
    Up to the first norm everything stays in float32: latents of any size are finite there, in half precision
    they would not be.
    """

    def __init__(self, config: LatentCLIPConfig, operations: Any, **where: Any) -> None:
        super().__init__()
        width, patch = config.vision_width, config.patch_size
        self.grid = config.grid
        self.conv1 = _patch_embedding(operations)(
            config.channels, width, patch, stride=patch, bias=False, **where
        )
        self.class_embedding = nn.Parameter(torch.empty(width, **where))
        self.positional_embedding = nn.Parameter(torch.empty(config.grid**2 + 1, width, **where))
        self.ln_pre = operations.LayerNorm(width, **where)
        self.transformer = Transformer(
            width, config.vision_layers, config.vision_heads, operations, config.activation, **where
        )
        self.ln_post = operations.LayerNorm(width, **where)
        self.proj = nn.Parameter(torch.empty(width, config.embed_dim, **where))

    def forward(self, z: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """[B, C, h, w] latents -> [B, D]: the class token, not normalised."""
        *blocks, last = self.transformer.resblocks
        x = self.embed(z, dtype)
        for block in blocks:
            x = block(x)
        # Only the class token leaves the tower: the last block need not compute the others.
        return self.project(last(x, queries=1)[:, 0])

    def patch_tokens(self, z: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """[B, C, h, w] latents -> [B, h/p, w/p, D]: the finished patch tokens, each of length 1."""
        x = self.transformer(self.embed(z, dtype))
        return self._on_grid(F.normalize(self.project(x[:, 1:]), dim=-1), z)

    def patch_contributions(self, z: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """[B, C, h, w] latents -> [B, h/p, w/p, D]: what each patch adds to the normalised embedding.

        The class token is a sum: what it began as, what every block's attention brought it from each token,
        and what its MLPs added. The parts that came from the patches are taken through the last norm, which
        is linear once its spread is known, and the projection (Gandelsman et al. 2024, arXiv 2310.05916).
        """
        x = self.embed(z, dtype)
        added = torch.zeros_like(x)
        for block in self.transformer.resblocks:
            added = added + block.contributions(x)  # pyright: ignore[reportCallIssue]
            x = block(x)
        first, added = x[:, :1], added[:, 1:]
        spread = (first.var(-1, correction=0, keepdim=True) + self.ln_post.eps).sqrt()
        added = (added - added.mean(-1, keepdim=True)) / spread * self.ln_post.weight.to(x)
        length = self.project(first).norm(dim=-1, keepdim=True)
        return self._on_grid(added @ self.proj.to(x) / length, z)

    def _on_grid(self, tokens: Tensor, z: Tensor) -> Tensor:
        rows, columns = (n // p for n, p in zip(z.shape[-2:], self.conv1.kernel_size, strict=True))
        return tokens.unflatten(1, (rows, columns))

    def embed(self, z: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """[B, C, h, w] -> [B, 1 + tokens, width]: what enters the first block."""
        x = self.conv1(z)
        positions = self.positions(x.shape[-2], x.shape[-1]).to(x)
        x = x.flatten(2).transpose(1, 2)  # [B, tokens, width]
        first = self.class_embedding.to(x).expand(x.shape[0], 1, -1)
        x = _norm(self.ln_pre, torch.cat([first, x], dim=1) + positions)
        return x if dtype is None else x.to(dtype)

    def positions(self, rows: int, columns: int) -> Tensor:
        """The position embedding, resampled unless the token grid is the native one. [1 + tokens, width]"""
        stored = self.positional_embedding
        if rows == columns == self.grid:
            return stored
        plane = stored[1:].float().T.reshape(1, -1, self.grid, self.grid)
        plane = resample(plane, rows, columns, "bicubic")
        return torch.cat([stored[:1], plane.flatten(2)[0].T.to(stored)])

    def project(self, x: Tensor) -> Tensor:
        x = self.ln_post(x)
        return x @ self.proj.to(x)
