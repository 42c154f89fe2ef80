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


def fit(z: Tensor, reader: LatentReader) -> Tensor:
    """Square views along the longer side, once the shorter side of the picture has the native size.

    Keeps the aspect ratio; neighbours overlap by half or more. Smaller latents are enlarged. In a space
    without a map (`SIZE_MAPS`) they are resampled, as by `crops`. -> [B, V, C, native, native]
    """
    native, shorter = reader.native_size, min(z.shape[-2:])
    height, width = (max(native, round(side * native / shorter)) for side in z.shape[-2:])
    fits = reader.space is None or reader.space.channels == z.shape[1]
    if shorter > native and fits and reader.latent_space in SIZE_MAPS:
        wide = z.to(torch.promote_types(z.dtype, torch.float32))  # nothing is rounded between the steps
        halve = SIZE_MAPS[reader.latent_space](z.device, wide.dtype)
        z = _shrunk(wide, height, width, halve).to(z.dtype)
    return windows(resample(z, height, width), native)


def _shrunk(z: Tensor, height: int, width: int, halve: Halve) -> Tensor:
    """Latents brought to a smaller size, at most by half in each pass."""
    while min(z.shape[-2:]) > 2 * min(height, width):
        half = [-(-side // 2) for side in z.shape[-2:]]
        z = halve(resample(z, 2 * half[0], 2 * half[1]))
    return halve(resample(z, 2 * height, 2 * width))
