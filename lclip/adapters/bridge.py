"""An adapter made of two VAEs, decoding with one and encoding with the other: faithful, and dear."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..latents.resampling import resample
from ..latents.spaces import LatentSpace, space_named
from .adapter import Adapter, AdapterShape
from .encoding import Decode, Encode, apart

NATIVE = 64
"""Cells that the released models read; a bridge to so many adds nothing to a fingerprint."""
PROBE = 4  # cells a side
STEPS = 64  # to 1: as fine as a probe's answers are told apart; devices differ by far less


def resized(pixels: Tensor, height: int, width: int) -> Tensor:
    """Pixels [B, 3, H, W] in 0..1 at another size, bicubic, antialiased; as they are where it is theirs."""
    if (height, width) == tuple(pixels.shape[-2:]):
        return pixels
    return resample(pixels, height, width, "bicubic").clamp(0, 1)


class Bridge(Adapter):
    """Raw latents of one space to another's through pixels, differentiable where both functions are.

    native: side in target cells that a larger picture's shorter side is shrunk to, in pixels, where shrinking
    is a plain thing to do; None leaves the size as it is. A smaller picture is never enlarged.
    """

    def __init__(
        self, decode: Decode, encode: Encode, source: LatentSpace, target: LatentSpace, native: int | None
    ) -> None:
        super().__init__(AdapterShape(source, target))
        self.decode, self.encode, self.native = decode, encode, native

    def forward(self, z: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, c, H, W], whole target cells."""
        z = self.check_source(z)
        pixels = apart(self.decode, z.float() if z.dtype.itemsize < 4 else z)
        return self.encode(resized(pixels, *self._size(*pixels.shape[-2:]))).clone()

    def beside_weights(self, device: torch.device) -> str:
        """For fingerprints: the native size, and what functions do that are no networks with weights.

        Networks are told by their weights. Anything else is asked about a small latent, or a small picture.
        ValueError where it does not answer.
        """
        told = [] if self.native == NATIVE else [f"native {self.native}"]
        if not _has_weights(self.decode):
            z = self.source.to_raw(_probe(self.source.channels, PROBE).to(device))
            told.append(_answer(self.decode, z, "decode"))
        if not _has_weights(self.encode):
            pixels = 0.5 + 0.5 * _probe(3, PROBE * self.target.factor).to(device)
            told.append(_answer(self.encode, pixels, "encode"))
        return "; ".join(told)

    def describe(self) -> str:
        return f"Bridge through pixels: {self.source.title} -> {self.target.title}"

    def _size(self, height: int, width: int) -> tuple[int, int]:
        factor = self.target.factor
        share = 1.0 if self.native is None else min(1.0, self.native * factor / min(height, width))
        return max(1, round(height * share / factor)) * factor, max(1, round(width * share / factor)) * factor


def bridge(
    decode: Decode, encode: Encode, source: str, target: str = "sdxl", native: int | None = NATIVE
) -> Bridge:
    """An adapter of two VAEs: decode the one's latents, shrink the picture, encode it with the other.

    source, target: names of the spaces. native: see `Bridge`; 64 cells are what the released models read.
    A fingerprint tells networks (torch.nn.Module) by their weights, and other functions by what they make of
    a small latent or picture.
    ValueError for an unknown space, or two whose cells do not fit.
    """
    return Bridge(decode, encode, space_named(source), space_named(target), native)


def _has_weights(call: object) -> bool:
    return isinstance(call, nn.Module) and next(call.parameters(), None) is not None


def _probe(channels: int, side: int) -> Tensor:
    """Smooth and different everywhere, in -1..1: [1, channels, side, side]."""
    return torch.sin(torch.arange(channels * side * side).reshape(1, channels, side, side) * 0.37)


def _answer(call: Callable[[Tensor], Tensor], given: Tensor, what: str) -> str:
    """A hash: what a function makes of the probe, rounded. One that draws noise draws the same each time."""
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            found = call(given.clone()).float().cpu()
        parts = (F.adaptive_avg_pool2d(found, PROBE) * STEPS).nan_to_num().round().to(torch.int64)
    except Exception as error:
        raise ValueError(
            f"the bridge's {what} cannot be told from others: asked about a tensor of shape "
            f"{list(given.shape)}, it fails with {type(error).__name__}: {str(error):.200}. Let it take any "
            "size, or give a torch.nn.Module with its weights"
        ) from error
    return f"{what} {hashlib.sha256(parts.numpy().tobytes()).hexdigest()[:16]}"
