"""Latents that look like those of SDXL or SD1.5, for tests of what tells one from the other."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from lclip.latents.siblings import SIBLINGS


def like(space: str, number: int = 8, side: int = 32, spread: float = 0.5) -> torch.Tensor:
    """Smooth latents with the means, spreads and correlations of a space's pictures, more or less."""
    other = "sd1.5" if space == "sdxl" else "sdxl"
    values = torch.tensor(SIBLINGS[other].means)
    source = torch.Generator().manual_seed(7)
    related = torch.eye(4)
    pairs = torch.triu_indices(4, 4, 1)
    related[pairs[0], pairs[1]] = related[pairs[1], pairs[0]] = values[8:]
    smooth = F.interpolate(torch.randn(number, 4, 8, 8, generator=source), (side, side), mode="bicubic")
    flat = smooth.flatten(2)
    flat = flat - flat.mean(2, keepdim=True)
    white = torch.linalg.inv(torch.linalg.cholesky(flat @ flat.transpose(1, 2) / flat.shape[2])) @ flat
    mixed = torch.linalg.cholesky(related) @ white
    jitter = (
        torch.randn(number, 8, 1, generator=source) * spread * torch.tensor(SIBLINGS[other].stds[:8])[:, None]
    )
    means, spreads = 6 * (values[:4, None] + jitter[:, :4]), (values[4:8, None] + jitter[:, 4:]).exp()
    return (mixed * spreads + means).reshape(number, 4, side, side)
