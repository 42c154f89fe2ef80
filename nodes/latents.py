"""The LATENT wire as a dictionary: reading its samples, taking batch items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ..lclip.latents.frames import why_no_pictures

NO_PICTURES = {"audio": "sound", "hunyuan3d": "a 3-D shape", "trellis": "a 3-D shape"}
"""What the host's own mark of a LATENT says, by how it begins."""

ITEM_SEEDS = "item_seeds"
"""What a race writes into its LATENT: the seeds of items, by what is in them. Whoever copies the LATENT with
other items carries it on, and it says nothing of them."""

EMPTY_LATENT_RATIOS = ("downscale_ratio_spacial", "downscale_ratio_temporal")
"""By how much a model of other latents must stretch an empty LATENT, in place and in time."""

NOT_OF_WHAT_IS_MADE = (*EMPTY_LATENT_RATIOS, ITEM_SEEDS)
"""What a LATENT says of its own samples only, not of those that are sampled from it."""


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


def numbers_said(latent: Mapping[str, Any]) -> list[int]:
    """What a LATENT calls its items (batch_index): a list, a tuple, an array or a tensor; empty: nothing."""
    numbers = latent.get("batch_index")
    return [] if numbers is None else [int(number) for number in numbers]


def numbers_of(latent: Mapping[str, Any]) -> tuple[int, ...] | None:
    """What a LATENT calls its items (batch_index); None where it does not say it of each."""
    numbers = numbers_said(latent)
    return tuple(numbers) if numbers and len(numbers) == len(samples_of(latent)) else None


def item_numbers(latent: Mapping[str, Any]) -> list[int]:
    """The number of each item in the batch that was sampled; its place where a LATENT says none."""
    batch = len(samples_of(latent))
    numbers = numbers_said(latent) or range(batch)
    return [numbers[index % len(numbers)] for index in range(batch)]


def take_items(latent: Mapping[str, Any], indices: list[int]) -> dict[str, Any]:
    """A new LATENT with these batch items, in this order; masks and batch indices go with their items.

    Where there is no batch_index yet, the items' own numbers are written, as the host's Latent From Batch
    does: sampling again with the same seed then gives each item its own noise.
    """
    numbered = {**latent, "batch_index": item_numbers(latent)}
    return {**_belongings(numbered, indices), "samples": samples_of(latent)[indices]}


def made_from(latent: Mapping[str, Any], samples: Tensor) -> dict[str, Any]:
    """The LATENT of what was sampled from one: the batch so many times over, all first ones, then all second
    ones. Masks and batch indices are repeated with their items."""
    kept = {key: value for key, value in latent.items() if key not in NOT_OF_WHAT_IS_MADE}
    batch = len(samples_of(latent))
    indices = [index % batch for index in range(len(samples))]
    return {**_belongings(kept, indices), "samples": samples}


def _belongings(latent: Mapping[str, Any], indices: list[int]) -> dict[str, Any]:
    """What a LATENT says besides its samples, for these of its items.

    Where it has fewer masks or numbers than items, they begin again with the first, as the host's do.
    """
    taken = dict(latent)
    mask, numbers = latent.get("noise_mask"), numbers_said(latent)
    if isinstance(mask, Tensor) and mask.ndim > 2 and mask.shape[0] > 1:
        taken["noise_mask"] = mask[[index % mask.shape[0] for index in indices]]
    if numbers:
        taken["batch_index"] = [numbers[index % len(numbers)] for index in indices]
    return taken


def _name_of(item: Tensor) -> str:
    """A name for an item's very numbers, the same wherever it lies, also as a video of one frame."""
    from ..lclip.checkpoints.inputs import inputs_digest

    return inputs_digest(item.flatten())


def with_seeds(latent: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    """A LATENT that says of each item which seed made it; see `seeds_of`.

    Items that are the same and have several seeds, as a guard's grey, are not named.
    """
    found: dict[str, set[int]] = {}
    for item, seed in zip(samples_of(latent), seeds, strict=True):
        found.setdefault(_name_of(item), set()).add(seed)
    return {**latent, ITEM_SEEDS: {name: seed for name, (seed, *more) in found.items() if not more}}


def seeds_of(latent: Mapping[str, Any]) -> list[int | None]:
    """The seed that made each item, as far as a race has said it of these very numbers."""
    samples, known = samples_of(latent), latent.get(ITEM_SEEDS)
    if not known:
        return [None] * len(samples)
    return [known.get(_name_of(item)) for item in samples]
