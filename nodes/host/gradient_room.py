"""Room for the gradients of Latent-CLIPs that are asked while a model samples.

The host is told before it samples. Where a batch does not fit all the same, a Latent-CLIP computes it in
parts; where the device has no memory left, item by item.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import comfy.model_management as management
from comfy.sampler_helpers import estimate_memory

from ... import lclip
from . import models
from .gradients import is_dynamic, is_partly_loaded
from .memory import is_out_of_memory

logger = logging.getLogger("latent-clip")

Answer = TypeVar("Answer")
Towers = Sequence[models.LoadedLatentCLIP]


def with_room(
    towers: Towers,
    prepare: Callable[..., tuple],
    model: Any,
    noise_shape: Sequence[int],
    conds: Any,
    *more: Any,
    **named: Any,
) -> tuple:
    """Wraps what loads a MODEL before it samples: room for the gradients beside what it takes itself.

    What is loaded stays, and what is not needed goes. ValueError for a Latent-CLIP that is not there whole.
    """
    prepared = prepare(model, noise_shape, conds, *more, **named)
    if len(noise_shape) >= 4 and not named.get("force_offload"):
        batch, height, width = (noise_shape[place] for place in (0, -2, -1))
        most, least = estimate_memory(model, noise_shape, conds)
        management.load_models_gpu(
            [model, *prepared[2]],
            memory_required=most + sum(each.gradient_memory(height, width, batch) for each in towers),
            minimum_memory_required=least + sum(each.gradient_memory(height, width, 1) for each in towers),
            force_full_load=named.get("force_full_load", False),
        )
    refuse_partly_loaded(towers)
    return prepared


def refuse_partly_loaded(towers: Towers) -> None:
    """ValueError for a Latent-CLIP, or a VAE of a bridge before it, whose weights are not all on the device:
    what is brought in by and by may be overwritten before the gradient reads it."""
    for loaded in towers:
        for patcher in loaded.patchers:
            if is_partly_loaded(patcher) or is_dynamic(patcher):
                raise ValueError(
                    f"{loaded.name} is in memory only partly, and its gradient would be wrong. Free memory, "
                    "take a smaller batch or picture, or start ComfyUI without --novram, --lowvram and "
                    "dynamic VRAM (--disable-dynamic-vram)."
                )


def in_room(towers: Towers, ask: Callable[[], Answer]) -> Answer:
    """What a function that asks Latent-CLIPs gives; item by item where the batch does not fit into memory."""
    try:
        return ask()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Outside of that clause, whose traceback keeps in memory what did not fit.
    logger.warning("The gradient of the batch does not fit into memory; going on item by item.")
    management.soft_empty_cache()
    with _one_at_a_time(towers):
        return ask()


@contextmanager
def _one_at_a_time(towers: Iterable[models.LoadedLatentCLIP]) -> Iterator[None]:
    """Within, every pass is about one item."""
    parts = [
        each for loaded in towers for each in loaded.model.modules() if isinstance(each, lclip.LatentCLIP)
    ]
    before = [part.free_bytes for part in parts]
    for part in parts:
        part.free_bytes = lambda: 0.0
    try:
        yield
    finally:
        for part, free in zip(parts, before, strict=True):
            part.free_bytes = free
