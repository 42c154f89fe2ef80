"""The LATENT wire as a dictionary: reading its samples, taking batch items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def samples_of(latent: Mapping[str, Any]) -> Tensor:
    """The raw latents of a LATENT wire, or ValueError where they are no single tensor."""
    samples = latent.get("samples")
    if not isinstance(samples, Tensor) or samples.is_nested:
        raise ValueError(
            f"The LATENT carries {type(samples).__name__} samples; expected one tensor [batch, channels, "
            "height, width]. Latents of pictures are read here, not of sound or of several streams."
        )
    return samples


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
    numbers = list(latent.get("batch_index") or range(samples.shape[0]))
    taken["batch_index"] = [numbers[index % len(numbers)] for index in indices]
    return taken
