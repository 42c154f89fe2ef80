"""Pictures as a Latent-CLIP reads them: cut, encoded by a VAE, and the same every time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..data.pictures import as_rgb, middle_square
from ..latents.encoders import Encoder
from ..latents.spaces import LatentSpace, space_named
from ..model.config import LatentCLIPConfig
from .vaes import open_vae


@dataclass(frozen=True)
class PictureToLatents:
    """A picture (PIL) -> raw latents [C, h, w] of the model's own size.

    It travels by its settings, so that a data loader's workers can have it; each opens the VAE once.
    """

    vae: str
    """As `open_vae` takes it."""
    space: str
    """Whose latents it makes."""
    side: int
    """Pixels of the middle square."""
    device: str = "cpu"
    seed: int = 0
    """Of the sample from the posterior: the same for every picture, so that order changes nothing."""

    @classmethod
    def for_model(
        cls, vae: str, config: LatentCLIPConfig, device: str = "cpu", seed: int = 0
    ) -> PictureToLatents:
        """For a model's space and size; the VAE is opened, and checked. Raises as `open_vae` does."""
        opened = _vae(vae, space_named(config.latent_space), device)
        return cls(vae, config.latent_space, config.native_size * opened.factor, device, seed)

    @property
    def opened(self) -> Encoder:
        """The VAE."""
        return _vae(self.vae, space_named(self.space), self.device)

    def __call__(self, picture: Any) -> Tensor:
        return self.encode(middle_square(as_rgb(picture), self.side)[None])[0].cpu()

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """[B, 3, side, side] in 0..1 -> raw latents [B, C, h, w]; every picture as if it were alone."""
        vae = self.opened
        rows = []
        with torch.random.fork_rng():
            for picture in pixels.split(1):
                torch.manual_seed(self.seed)
                rows.append(vae.encode(picture.to(self.device)))
        return torch.cat(rows)


@lru_cache(maxsize=4)
def _vae(name: str, space: LatentSpace, device: str) -> Encoder:
    return open_vae(name, space, device)
