"""The mini world's VAEs: factor 8, convolutional, so that any picture size works.

The world's own has 4 channels. Its twin has 16, is narrower, and has another scale and a shift, as the VAEs
of newer models have.

The posterior has a fixed variance (Ghosh et al. 2020, "From Variational to Deterministic Autoencoders",
section 3): encoding gives its mean, training adds noise of that variance.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

FACTOR = 8
CHANNELS = 4
RAW_STD = 6.0  # std of raw latents over the training pictures, of SDXL's order; the trainer folds it in

TWIN_CHANNELS = 16
TWIN_STD, TWIN_SHIFT = 2.5, 0.4  # of FLUX's order; the shift is larger, so that forgetting it shows


class ResBlock(nn.Module):
    """Two 3x3 convolutions around a residual connection, [B, C, H, W] -> [B, C, H, W]."""

    def __init__(self, width: int):
        super().__init__()
        self.norm_1 = nn.GroupNorm(8, width)
        self.conv_1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm_2 = nn.GroupNorm(8, width)
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.conv_1(F.silu(self.norm_1(x)))
        return x + self.conv_2(F.silu(self.norm_2(hidden)))


class MiniVAE(nn.Module):
    """Pixels [B, 3, H, W] in -1..1 to raw latents [B, channels, H/8, W/8] and back.

    fine, coarse: widths at a quarter and an eighth of the picture's side. shift: added to raw latents.
    """

    def __init__(self, fine: int = 64, coarse: int = 128, channels: int = CHANNELS, shift: float = 0.0):
        super().__init__()
        self.channels, self.shift = channels, shift
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, fine, 3, padding=1),
            ResBlock(fine),
            nn.Conv2d(fine, coarse, 3, stride=2, padding=1),
            ResBlock(coarse),
            nn.Conv2d(coarse, channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, coarse, 3, padding=1),
            ResBlock(coarse),
            ResBlock(coarse),
            nn.Conv2d(coarse, fine * 4, 1),
            nn.PixelShuffle(2),
            ResBlock(fine),
            ResBlock(fine),
            nn.Conv2d(fine, 48, 3, padding=1),
            nn.PixelShuffle(4),
        )

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Raw latents (the posterior mean) of pixels whose sides are multiples of 8."""
        if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.shape[2] % FACTOR or pixels.shape[3] % FACTOR:
            raise ValueError(
                f"MiniVAE.encode takes pixels [B, 3, H, W] with sides that are multiples of {FACTOR}, "
                f"got {list(pixels.shape)}; crop or pad the picture"
            )
        return self.encoder(pixels) + self.shift

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels [B, 3, 8h, 8w] in about -1..1 of raw latents [B, channels, h, w]."""
        if latents.ndim != 4 or latents.shape[1] != self.channels:
            raise ValueError(
                f"MiniVAE.decode takes latents [B, {self.channels}, h, w], got {list(latents.shape)}"
            )
        return self.decoder(latents - self.shift)

    def fold_scale(self, factor: float) -> None:
        """Multiply raw latents by `factor` in the weights: the decoder divides by it."""
        with torch.no_grad():
            last, first = cast(nn.Conv2d, self.encoder[-1]), cast(nn.Conv2d, self.decoder[0])
            last.weight.mul_(factor)
            cast(torch.Tensor, last.bias).mul_(factor)
            first.weight.div_(factor)


def twin_vae() -> MiniVAE:
    """The untrained VAE of the 16-channel twin."""
    return MiniVAE(fine=32, coarse=48, channels=TWIN_CHANNELS, shift=TWIN_SHIFT)
