"""What every search, race and slider is refused for before anything is sampled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from ...lclip.latents.checks import check_readable, check_shape
from ..latents import about
from .models import LoadedLatentCLIP
from .spaces import check_same_space


def check_start(
    patcher: Any, towers: Iterable[LoadedLatentCLIP], noise: Tensor, latent_image: Tensor | None
) -> None:
    """ValueError where a Latent-CLIP cannot read what the model will make: another space, too small a
    picture, or a latent image without any item that is finite, which samples to nothing else."""
    for loaded in towers:
        check_same_space(patcher, loaded.config)
        with about("latent_image"):
            check_shape(noise, loaded.config)
            if latent_image is not None:
                check_readable(latent_image, loaded.config)
