"""The LATENT wire as a dictionary: reading its samples, taking batch items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ..lclip.latents.frames import why_no_pictures

NO_PICTURES = {"audio": "sound", "hunyuan3d": "a 3-D shape", "trellis": "a 3-D shape"}
"""What the host's own mark of a LATENT says, by how it begins."""


@contextmanager
def about(socket: str) -> Iterator[None]:
    """Errors from within begin with the socket that they are about, where a node has several of a kind."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{socket}: {error}") from error


def samples_of(latent: Mapping[str, Any]) -> Tensor:
    """The raw latents of a LATENT wire: [B, C, H, W], or one frame each [B, C, 1, H, W].

    ValueError where they are no pictures.
    """
    samples = latent.get("samples")
    if not isinstance(samples, Tensor) or samples.is_nested:
        raise ValueError(
            f"This LATENT carries several streams ({type(samples).__name__}), as a video with its sound; "
            "pictures are read here. Part them by the node Separate AV Latent, and take a frame of the video "
            "by Latent Cut (dim t, index: which frame, amount 1)."
        )
    mark = str(latent.get("type", ""))
    for beginning, what in NO_PICTURES.items():
        if mark.startswith(beginning):
            raise ValueError(
                f"This LATENT holds {what} (its type is {mark!r}); latents of pictures are read here. Wire "
                "the latent of an image model."
            )
    if (why := why_no_pictures(samples)) is not None:
        raise ValueError(f"These {why}")
    return samples


def numbers_of(latent: Mapping[str, Any]) -> tuple[int, ...] | None:
    """What a LATENT calls its items (batch_index); None where it does not say it of each."""
    numbers = latent.get("batch_index")
    if numbers is None or len(numbers) != len(samples_of(latent)):
        return None
    return tuple(map(int, numbers))


def take_items(latent: Mapping[str, Any], indices: list[int]) -> dict[str, Any]:
    """A new LATENT with these batch items, in this order; masks and batch indices go with their items.

    Where there is no batch_index yet, the items' own numbers are written, as the host's Latent From Batch
    does: sampling again with the same seed then gives each item its own noise.
    """
    samples = samples_of(latent)
    taken = {**latent, "samples": samples[indices]}
    mask = latent.get("noise_mask")
    if isinstance(mask, Tensor) and mask.ndim > 2 and mask.shape[0] > 1:
        taken["noise_mask"] = mask[[index % mask.shape[0] for index in indices]]
    if seeds := latent.get("seeds"):  # of Race KSampler
        taken["seeds"] = [seeds[index % len(seeds)] for index in indices]
    numbers = list(latent.get("batch_index") or range(samples.shape[0]))
    taken["batch_index"] = [numbers[index % len(numbers)] for index in indices]
    return taken
