"""Noise search in one call: what the stock KSampler does around its sampler, and the results as they go onto
wires."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from inspect import signature
from typing import TYPE_CHECKING, Any

import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
from torch import Tensor

from ..latents import (
    EMPTY_LATENT_RATIOS,
    item_numbers,
    made_from,
    numbers_of,
    numbers_said,
    samples_of,
    with_seeds,
)
from . import exits
from .finds import FixedNoise
from .rows import numbered

if TYPE_CHECKING:
    from ... import lclip
    from .outcome import SearchOutcome
    from .race import RaceSampler
    from .sampling import NoiseSearch


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

    @classmethod
    def taken_from(cls, widgets: dict[str, Any]) -> Stage:
        """Taken out of a node's inputs, which `search_widgets.stage_inputs` asks for."""
        return cls(**{field.name: widgets.pop(field.name) for field in fields(cls)})

    def nothing_left(self) -> ValueError:
        """The error where the sampler was never asked."""
        return ValueError(
            f"{self.steps} steps at denoise {self.denoise} leave nothing to sample. Raise denoise or steps."
        )


@dataclass(frozen=True)
class Found:
    """The result of a search as it goes onto wires."""

    best: dict[str, Any]
    initial: dict[str, Any]
    noise: FixedNoise
    outcome: SearchOutcome


def search_noise(search: NoiseSearch, stage: Stage, latent: dict[str, Any], preview: bool = True) -> Found:
    """Run a search as the stock KSampler runs a sampler: same schedule, noise, mask and preview.

    What a guard of the model would not let out leaves by no output: grey takes its place, and its noise is 0.
    preview: show the best so far while it runs, not only the progress.
    """
    search.settings = replace(search.settings, places=numbers_of(latent))
    best = sampled(search, search.sampler_name, stage, latent, search.settings.renders, preview)
    if search.finds.last is None:
        raise stage.nothing_left()
    outcome, (noise,) = search.finds.last.result, search.finds.last.noises
    initial = exits.cleared(stage.model, outcome.initial_latents)
    return Found(made_from(latent, best), made_from(latent, initial), noise, outcome)


@dataclass(frozen=True)
class RaceFound:
    """The result of a race as it goes onto wires; noises: by rank, each for the whole batch."""

    best: dict[str, Any]
    noises: list[FixedNoise]
    result: lclip.RaceResult


def run_race(sampler: RaceSampler, stage: Stage, latent: dict[str, Any]) -> RaceFound:
    """Run a race as the stock KSampler runs a sampler; its first candidate is what that would give.

    What a guard of the model would not let out leaves by no output: see `search_noise`.
    """
    sampler.numbers = _drawn_as(latent)
    sampler.settings = replace(sampler.settings, places=numbers_of(latent))
    best = sampled(sampler, sampler.sampler_name, stage, latent, stage.steps)
    if (found := sampler.finds.last) is None:
        raise stage.nothing_left()
    made = made_from(latent, best)
    if sampler.settings.method != "resample":  # no seed makes again what was resampled
        made = with_seeds(made, found.result.seeds)
    return RaceFound(made, found.noises, found.result)


def sampled(
    sampler: Any, name: str, stage: Stage, latent: dict[str, Any], shown: int, preview: bool = True
) -> Tensor:
    """What the stock KSampler does around its sampler. shown: how often the sampler shows how far it is."""
    samples = samples_of(latent)
    model = numbered(stage.model, numbers_of(latent))
    if samples.numel() == 0:
        raise ValueError(
            f"The latent image is empty, shape {list(samples.shape)}; there is nothing to render."
        )
    samples = with_channels(model, latent)
    plan = comfy.samplers.KSampler(
        model, stage.steps, model.load_device, name, stage.scheduler, stage.denoise, model.model_options
    )
    noise = noise_of({**latent, "samples": samples}, stage.seed)
    return comfy.sample.sample_custom(
        model,
        noise,
        stage.cfg,
        sampler,
        plan.sigmas,
        stage.positive,
        stage.negative,
        samples,
        noise_mask=latent.get("noise_mask"),
        callback=_callback(model, shown, preview),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=stage.seed,
    )


def with_channels(model: Any, latent: Mapping[str, Any]) -> Tensor:
    """The samples of a LATENT, as the stock KSampler hands them to this model: empty ones in its form."""
    fix = comfy.sample.fix_empty_latent_channels
    taken = signature(fix).parameters  # older hosts know fewer of them
    ratios = {name: latent[name] for name in EMPTY_LATENT_RATIOS if name in latent and name in taken}
    return fix(model, samples_of(latent), **ratios)


def noise_of(latent: Mapping[str, Any], seed: int) -> Tensor:
    """The noise that the stock KSampler starts from, for latents as they are."""
    return comfy.sample.prepare_noise(latent["samples"], seed, _drawn_as(latent))


def _drawn_as(latent: Mapping[str, Any]) -> list[int] | None:
    """The number that each item's noise is drawn by, where a LATENT says any (batch_index)."""
    return item_numbers(latent) if numbers_said(latent) else None


def _callback(model: Any, renders: int, preview: bool) -> Callable[[int, Tensor, Tensor, int], None]:
    if preview:
        return latent_preview.prepare_callback(model, renders)
    bar = comfy.utils.ProgressBar(renders)
    return lambda step, x0, x, total: bar.update_absolute(step + 1, total)
