"""One frame is a picture: latents [B, C, 1, h, w], as image models with a video model's VAE make them.

Qwen-Image, Wan and their kin keep an axis for time. Whatever reads latents takes the single frame by
`as_pictures`, and what gives latents back gives them `in_form_of` those that came in.
"""

from __future__ import annotations

import torch
from torch import Tensor


def as_pictures(z: Tensor) -> Tensor:
    """[B, C, 1, h, w] -> [B, C, h, w]; anything else as it is. Differentiable, no copy."""
    return z.squeeze(2) if z.ndim == 5 and z.shape[2] == 1 else z


def in_form_of(z: Tensor, like: Tensor | torch.Size) -> Tensor:
    """Pictures [B, C, h, w], or [B, C, 1, h, w], in the form that others have."""
    pictures = as_pictures(z)
    framed = (like.ndim if isinstance(like, Tensor) else len(like)) == 5
    return pictures.unsqueeze(2) if framed and pictures.ndim == 4 else pictures


def why_no_pictures(z: Tensor) -> str | None:
    """Why latents are no batch of pictures, in words for whoever wired them; None where they are one."""
    shape = list(z.shape)
    if z.ndim == 5 and z.shape[2] != 1:
        return (
            f"latents have shape {shape}: these are video latents, {z.shape[2]} frames each; Latent-CLIP "
            "reads pictures. Put the node Latent Cut before it (dim t, index: which frame, amount 1)."
        )
    if z.ndim == 3:
        return (
            f"latents have 3 dimensions, shape {shape}, as those of sound and of 3-D shapes have; "
            "Latent-CLIP reads pictures, [batch, channels, height, width]. Wire the latent of an image model."
        )
    if z.ndim not in (4, 5):
        return (
            f"latents have {z.ndim} dimensions, shape {shape}; expected those of pictures, [batch, channels, "
            "height, width]."
        )
    return None
