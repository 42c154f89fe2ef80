"""Noise search in one call: what the stock KSampler does around its sampler, and the results as they go onto
wires."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
from torch import Tensor

from ...lclip.latents.items import per_item
from ..latents import samples_of
from . import exits
from .sampling import NoiseSearch, SearchOutcome


class FixedNoise:
    """A NOISE of given values: wired into SamplerCustomAdvanced it starts from exactly these."""

    def __init__(self, noise: Tensor, seed: int) -> None:
        self.noise, self.seed = noise, seed

    def generate_noise(self, latent: dict[str, Any]) -> Tensor:
        wanted = tuple(samples_of(latent).shape)
        have = tuple(self.noise.shape)
        if wanted[:1] + wanted[2:] != have[:1] + have[2:]:
            raise ValueError(
                f"This noise was found for latents of shape {list(have)}; the latent image has shape "
                f"{list(wanted)}. Wire the latent image that the search ran on."
            )
        return self.noise


@dataclass(frozen=True)
class Stage:
    """What the stock KSampler is told besides its sampler and latent image."""

    model: Any
    positive: Any
    negative: Any
    cfg: float
    seed: int
    steps: int
    scheduler: str
    denoise: float


@dataclass(frozen=True)
class Found:
    """The result of a search as it goes onto wires."""

    best: dict[str, Any]
    initial: dict[str, Any]
    noise: FixedNoise
    outcome: SearchOutcome


def _places(latent: dict[str, Any], batch: int) -> tuple[int, ...] | None:
    """Where the items stood in the batch that they were taken from: they draw what they drew there."""
    numbers = latent.get("batch_index")
    return tuple(map(int, numbers)) if numbers is not None and len(numbers) == batch else None


def search_noise(search: NoiseSearch, stage: Stage, latent: dict[str, Any], preview: bool = True) -> Found:
    """Run a search as the stock KSampler runs a sampler: same schedule, noise, mask and preview.

    What a guard of the model would not let out leaves by no output: grey takes its place, and its noise is 0.
    preview: show the best so far while it runs, not only the progress.
    """
    model, samples = stage.model, samples_of(latent)
    if samples.numel() == 0:
        raise ValueError(
            f"The latent image is empty, shape {list(samples.shape)}; there is nothing to render."
        )
    extra = [latent[key] for key in ("downscale_ratio_spacial",) if key in latent]
    samples = comfy.sample.fix_empty_latent_channels(model, samples, *extra)
    plan = comfy.samplers.KSampler(
        model,
        stage.steps,
        model.load_device,
        search.sampler_name,
        stage.scheduler,
        stage.denoise,
        model.model_options,
    )
    noise = comfy.sample.prepare_noise(samples, stage.seed, latent.get("batch_index"))
    outcomes: list[SearchOutcome] = []
    search.on_outcome = outcomes.append
    search.settings = replace(search.settings, places=_places(latent, len(noise)))
    best = comfy.sample.sample_custom(
        model,
        noise,
        stage.cfg,
        search,
        plan.sigmas,
        stage.positive,
        stage.negative,
        samples,
        noise_mask=latent.get("noise_mask"),
        callback=_callback(model, search.settings.renders, preview),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=stage.seed,
    )
    if not outcomes:
        raise ValueError(
            f"{stage.steps} steps at denoise {stage.denoise} leave nothing to sample. Raise denoise or steps."
        )
    kept = {key: value for key, value in latent.items() if key != "downscale_ratio_spacial"}
    outcome = outcomes[0]
    unsafe = exits.unsafe_to_leave(model, outcome.best_latents)
    found = outcome.gather("best_noise").cpu()
    return Found(
        {**kept, "samples": best},
        {**kept, "samples": exits.cleared(model, outcome.initial_latents)},
        FixedNoise(found.masked_fill(per_item(unsafe, found), 0.0), stage.seed),
        outcome,
    )


def _callback(model: Any, renders: int, preview: bool) -> Callable[[int, Tensor, Tensor, int], None]:
    if preview:
        return latent_preview.prepare_callback(model, renders)
    bar = comfy.utils.ProgressBar(renders)
    return lambda step, x0, x, total: bar.update_absolute(step + 1, total)
