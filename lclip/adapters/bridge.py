"""An adapter made of two VAEs, decoding with one and encoding with the other: faithful, and dear."""

from __future__ import annotations

from torch import Tensor

from ..latents.resampling import resample
from ..latents.spaces import LatentSpace, space_named
from .adapter import Adapter, AdapterShape
from .encoding import Decode, Encode, apart


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

    def describe(self) -> str:
        return f"Bridge through pixels: {self.source.title} -> {self.target.title}"

    def _size(self, height: int, width: int) -> tuple[int, int]:
        factor = self.target.factor
        share = 1.0 if self.native is None else min(1.0, self.native * factor / min(height, width))
        return max(1, round(height * share / factor)) * factor, max(1, round(width * share / factor)) * factor


def bridge(
    decode: Decode, encode: Encode, source: str, target: str = "sdxl", native: int | None = 64
) -> Bridge:
    """An adapter of two VAEs: decode the one's latents, shrink the picture, encode it with the other.

    source, target: names of the spaces. native: see `Bridge`; 64 cells are what the released models read.
    ValueError for an unknown space, or two whose cells do not fit.
    """
    return Bridge(decode, encode, space_named(source), space_named(target), native)
