"""The forms that diffusers' pipelines keep latents in while they sample, and what their VAEs take.

`Planes`: [B, C, h, w], as SD, SDXL, SD3 and Z-Image have them. `Packed`: tokens [B, L, 4 C], each of 2 x 2
cells, of FLUX; Qwen-Image's too, whose VAE makes frames [B, C, 1, h, w]. `Folded`: FLUX.2's tokens [B, L, C],
of latents that its VAE's batch norm has scaled and whose 2 x 2 cells are folded into channels; what leaves
the pipeline is unfolded and not scaled.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

PACK = 2
"""Cells a side that one token holds, or that are folded into channels."""
FOLDING, FRAMES = "AutoencoderKLFlux2", "AutoencoderKLQwenImage"
"""Kinds of VAEs."""


class Planes:
    """Latents [B, C, h, w] as they are."""

    tokens, cell = False, 1
    """Whether the pipeline samples on tokens; cells a side of what a picture's sides are multiples of."""

    def __init__(self, pipe: Any) -> None:
        self.vae = pipe.vae

    def unpacked(self, tokens: Tensor, high: int, wide: int) -> Tensor:
        """Tokens of so many rows and columns -> planes."""
        raise NotImplementedError

    def packed(self, planes: Tensor) -> Tensor:
        """Planes -> tokens."""
        raise NotImplementedError

    def sampled(self, planes: Tensor) -> Tensor:
        """Planes that left the pipeline, as it samples them."""
        return planes

    def start(self, planes: Tensor) -> Tensor:
        """Noise as the pipeline takes it from outside."""
        return self.packed(planes) if self.tokens else planes

    def encoded(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] in -1..1 -> raw latents, the middle of the posterior."""
        return self.vae.encode(pixels).latent_dist.mode()

    def decoded(self, raw: Tensor) -> Tensor:
        """Raw latents -> [B, 3, H, W] in -1..1."""
        return self.vae.decode(raw).sample


class Packed(Planes):
    """FLUX: 2 x 2 cells are a token."""

    tokens, cell = True, PACK

    def unpacked(self, tokens: Tensor, high: int, wide: int) -> Tensor:
        planes = tokens.reshape(len(tokens), high, wide, -1, PACK, PACK).permute(0, 3, 1, 4, 2, 5)
        return planes.reshape(len(tokens), -1, high * PACK, wide * PACK)

    def packed(self, planes: Tensor) -> Tensor:
        b, c, h, w = planes.shape
        planes = planes.reshape(b, c, h // PACK, PACK, w // PACK, PACK).permute(0, 2, 4, 1, 3, 5)
        return planes.reshape(b, -1, c * PACK * PACK)


class PackedFrames(Packed):
    """Qwen-Image: packed as FLUX's, and a VAE of frames."""

    def encoded(self, pixels: Tensor) -> Tensor:
        return super().encoded(pixels[:, :, None])[:, :, 0]

    def decoded(self, raw: Tensor) -> Tensor:
        return super().decoded(raw[:, :, None])[:, :, 0]


class Folded(Planes):
    """FLUX.2: a cell of the folded latents is a token."""

    tokens = True

    def unpacked(self, tokens: Tensor, high: int, wide: int) -> Tensor:
        return tokens.transpose(1, 2).unflatten(2, (high, wide))

    def packed(self, planes: Tensor) -> Tensor:
        return planes.flatten(2).transpose(1, 2)

    def start(self, planes: Tensor) -> Tensor:
        return planes

    def sampled(self, planes: Tensor) -> Tensor:
        if planes.shape[1] != self.vae.config.latent_channels:
            return planes
        b, c, h, w = planes.shape
        cells = planes.reshape(b, c, h // PACK, PACK, w // PACK, PACK).permute(0, 1, 3, 5, 2, 4)
        mean, std = self._norm(planes)
        return (cells.reshape(b, c * PACK * PACK, h // PACK, w // PACK) - mean) / std

    def encoded(self, pixels: Tensor) -> Tensor:
        return self.sampled(super().encoded(pixels))

    def decoded(self, raw: Tensor) -> Tensor:
        mean, std = self._norm(raw)
        cells = (raw * std + mean).unflatten(1, (-1, PACK, PACK)).permute(0, 1, 4, 2, 5, 3)
        return super().decoded(cells.flatten(4, 5).flatten(2, 3))

    def _norm(self, like: Tensor) -> tuple[Tensor, Tensor]:
        norm = self.vae.bn
        spread = torch.sqrt(norm.running_var + self.vae.config.batch_norm_eps)
        return tuple(each.view(1, -1, 1, 1).to(like) for each in (norm.running_mean, spread))  # type: ignore


def form_of(pipe: Any) -> Planes:
    """How a pipeline keeps its latents."""
    kind = type(getattr(pipe, "vae", None)).__name__
    if kind == FOLDING:
        return Folded(pipe)
    if kind == FRAMES:
        return PackedFrames(pipe)
    return Packed(pipe) if hasattr(pipe, "_unpack_latents") else Planes(pipe)
