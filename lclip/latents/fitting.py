"""The size rule "fit": the latents that the same picture would have had at the model's own size.

A VAE's latents of a large picture are not its latents of a small one, made larger: resampled, they lose a
third of their spread, and are like none that the model has seen. A learned map halves them instead
(`SIZE_MAPS`, by latent space): it gives what decoding, shrinking the picture and encoding again would give,
without either.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .reader import LatentReader
from .resampling import resample, windows
from .worlds import SIZE_MAPS, Halve


def has_map(reader: LatentReader) -> bool:
    """Whether there is a learned map for the reader's latents."""
    known = reader.space is None or reader.space.channels == reader.channels
    return known and reader.latent_space in SIZE_MAPS


def fit(z: Tensor, reader: LatentReader) -> Tensor:
    """`fitted`, as square views along the longer side; neighbours overlap by half or more.

    -> [B, V, C, native, native]
    """
    return windows(fitted(z, reader), reader.native_size)


def fitted(z: Tensor, reader: LatentReader) -> Tensor:
    """The whole latents, once the shorter side of the picture has the native size. -> [B, C, h, w]

    Keeps the aspect ratio. Smaller latents are enlarged. In a space without a map (`SIZE_MAPS`) they are
    resampled.
    """
    native, shorter = reader.native_size, min(z.shape[-2:])
    height, width = (max(native, round(side * native / shorter)) for side in z.shape[-2:])
    if shorter > native and has_map(reader):
        wide = z.to(torch.promote_types(z.dtype, torch.float32))  # nothing is rounded between the steps
        halve = SIZE_MAPS[reader.latent_space](z.device, wide.dtype)
        z = _shrunk(wide, height, width, halve).to(z.dtype)
    return resample(z, height, width)


def _shrunk(z: Tensor, height: int, width: int, halve: Halve) -> Tensor:
    """Latents brought to a smaller size, at most by half in each pass."""
    while min(z.shape[-2:]) > 2 * min(height, width):
        half = [-(-side // 2) for side in z.shape[-2:]]
        z = halve(resample(z, 2 * half[0], 2 * half[1]))
    return halve(resample(z, 2 * height, 2 * width))
