"""Encoders of VAEs by name: what turns pictures into latents, as far as the library has them itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .spaces import LatentSpace, require_shape, require_space


@dataclass(frozen=True)
class Encoder:
    """A frozen VAE's encoder. encode: pixels [B, 3, H, W] in 0..1 -> raw latents [B, channels, h, w].

    decode: the way back, where there is one.
    """

    name: str
    channels: int
    factor: int  # pixels per latent cell, each way
    encode: Callable[[Tensor], Tensor]
    space: str | None = None  # the name of its latent space, where that is known
    decode: Callable[[Tensor], Tensor] | None = None

    def check(self, space: LatentSpace, reader: str = "This training") -> None:
        """Refuse a VAE whose latents cannot be of that space. reader: what reads them. Raises ValueError."""
        vae, advice = f"the VAE {self.name}", "Name the space's own VAE."
        require_shape(space, self.channels, self.factor, vae, advice)
        if self.space is not None:
            require_space(space.name, self.space, reader, f"{vae} makes", advice)
