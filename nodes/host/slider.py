"""A series of pictures along an axis, inside the host's own samplers: by the noise of a stock sampler, or by
guidance of its predicted x0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import comfy.samplers
import torch
from torch import Tensor

from ... import lclip
from .. import draw
from ..latents import made_from
from . import exits, memory, models
from .finds import FixedNoise
from .gradient_room import in_room
from .gradients import NoGradientError, make_differentiable, plain_copy
from .guidance import Hook, with_companions
from .ksampler import Stage, noise_of, sampled, with_channels
from .sampling import NoiseSearch
from .scene import Prepared, Scene
from .starts import check_start

if TYPE_CHECKING:
    from ...lclip.choosing.slider import Change

INSTEAD = "Set method to guidance, which needs no gradient of the model and works with every sampler"
FEW_STEPS = 4
"""Up to so many steps a model is moved by its noise, where nobody says how."""

Tell = Callable[[str], None]


def method_for(method: str, steps: int) -> str:
    """How a model of so many steps is moved: noise or guidance."""
    if method != "auto":
        return method
    return "noise" if steps <= FEW_STEPS else "guidance"


@dataclass(frozen=True)
class Series:
    """A series as it goes onto wires; noises and models: by position, each for the whole batch."""

    latent: dict[str, Any]
    noises: list[FixedNoise]
    models: list[Any]
    result: lclip.SlideResult


class SliderSearch(NoiseSearch):
    """A SAMPLER that gives a whole series, by the noise of a stock sampler."""

    def __init__(
        self,
        slider: models.WiredReward,
        axis: lclip.SliderReward,
        sampler_name: str,
        settings: lclip.SlideSettings,
        checkpointing: str,
        tell: Tell,
    ) -> None:
        renders = lclip.ReNOSettings(iterations=max(2, settings.renders))
        super().__init__(slider, sampler_name, renders, checkpointing, tell=tell)
        self.axis, self.slide = axis, settings
        self.found: lclip.SlideResult | None = None

    def _search(self, prepared: Prepared, settings: lclip.ReNOSettings, report: Any) -> Any:
        run = lclip.NoiseSlide(
            lambda noise: prepared.to_raw(prepared.generate(noise)), prepared.noise, self.axis, self.slide
        )
        inner = prepared.scene.model_wrap.inner_model
        for step in run:
            management.throw_exception_if_processing_interrupted()
            report.show(step_text(step.index, self.slide), inner.process_latent_in(step.latents))
        return run.result()

    def _finish(self, scene: Scene, results: list[Any]) -> Tensor:
        self.found = joined(results)
        return scene.model_wrap.inner_model.process_latent_in(self.found.latents)


def joined(results: list[lclip.SlideResult]) -> lclip.SlideResult:
    """Series of consecutive batch items as one: rows are position x B + item, as ever."""
    if len(results) == 1:
        return results[0]
    count = len(results[0].positions)

    def rows(name: str) -> Tensor:
        parts = [getattr(each, name) for each in results]
        return torch.cat([part.unflatten(0, (count, -1)) for part in parts], 1).flatten(0, 1)

    def columns(name: str) -> Tensor:
        return torch.cat([getattr(each, name) for each in results], -1)

    return lclip.SlideResult(
        latents=rows("latents"),
        noise=rows("noise"),
        positions=columns("positions"),
        targets=columns("targets"),
        start=columns("start"),
        start_latents=torch.cat([each.start_latents for each in results]),
        kept=columns("kept"),
    )


def step_text(index: int, settings: lclip.SlideSettings) -> str:
    """Where a series is, for the line on the node."""
    said = draw.words.said
    if index < 0:
        return said("the start")
    asked = f"{settings.targets[index]:+.2f}"
    return said("position {number} of {of} ({asked})", number=index + 1, of=settings.positions, asked=asked)


def by_noise(search: SliderSearch, stage: Stage, latent: dict[str, Any]) -> Series:
    """Run a series by noise as the stock KSampler runs a sampler: same schedule, noise, mask and preview."""
    try:
        made = sampled(search, search.sampler_name, stage, latent, search.settings.renders)
    except NoGradientError as error:
        raise ValueError(f"{error.why} {INSTEAD}.") from error
    if search.found is None:
        raise stage.nothing_left()
    result = search.found
    assert result.noise is not None
    noise = memory.to_host(result.noise).cpu()
    noise = exits.cleared_noise(stage.model, memory.to_host(result.latents), noise)
    count = search.slide.positions
    return Series(
        made_from(latent, made),
        [FixedNoise(each, stage.seed) for each in noise.split(len(noise) // count)],
        [stage.model] * count,
        result,
    )


def by_guidance(
    slider: models.WiredReward,
    axis: lclip.SliderReward,
    sampler_name: str,
    settings: lclip.SlideSettings,
    stage: Stage,
    latent: dict[str, Any],
    tell: Tell,
) -> Series:
    """Run a series by guidance: the stock KSampler for each position, from the same noise."""
    samples = with_channels(stage.model, latent)
    check_start(stage.model, slider.models, samples, samples)
    if stage.denoise <= 0:
        raise stage.nothing_left()
    guided = _Guided(slider, sampler_name, stage, latent)
    run = lclip.GuidedSlide(guided.render, axis, settings)
    tell(step_text(-1, settings))
    for step in run:
        tell(step_text(step.index, settings))
    result = run.result()
    count = settings.positions
    noise = FixedNoise(noise_of({**latent, "samples": result.start_latents.cpu()}, stage.seed), stage.seed)
    patched = dict(zip(settings.moved, guided.patched[1:], strict=True))
    return Series(
        made_from(latent, memory.to_host(result.latents)),
        [noise] * count,
        [patched.get(index, stage.model) for index in range(count)],
        result,
    )


class _Guided:
    """Renders of the stock sampler with a change of its predicted x0; keeps the patched models in order."""

    def __init__(
        self, slider: models.WiredReward, sampler_name: str, stage: Stage, latent: dict[str, Any]
    ) -> None:
        self.slider, self.sampler_name = slider, sampler_name
        self.stage, self.latent = stage, latent
        self.patched: list[Any] = []

    def render(self, change: Change) -> Tensor:
        model = with_companions(self.stage.model, self.slider.models, _Moved(self.slider, change))
        self.patched.append(model)
        stage, stock = replace(self.stage, model=model), comfy.samplers.sampler_object(self.sampler_name)
        made = sampled(stock, self.sampler_name, stage, self.latent, stage.steps)
        self.slider.ready(made)
        return made


@dataclass(frozen=True)
class _Moved(Hook):
    """Called by the host after each prediction of x0, in inference mode or within a noise search."""

    slider: models.WiredReward
    change: Change

    def __call__(self, args: dict[str, Any]) -> Tensor:
        x0: Tensor = args["denoised"]
        model = args["model"]
        with torch.inference_mode(False):
            for loaded in self.slider.models:
                make_differentiable(loaded.model)
            clean = model.process_latent_out(plain_copy(x0.detach()))
            moved = in_room(self.slider.models, lambda: self.change(clean, float(args["sigma"].max())))
            move = model.process_latent_in(moved) - model.process_latent_in(clean)
        return x0 + move.to(x0)
