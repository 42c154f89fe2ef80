"""ReNO and races through a pipeline of one or a few steps."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..choosing.race import RaceRun
from ..choosing.types import RaceSettings
from ..reno.run import ReNORun
from ..reno.types import ReNOSettings
from ..rewards.rewards import Reward
from .after import Chosen, one_prompt
from .calls import check_call, latents_from, steps_of
from .field import Field
from .latents import PipelineLatents, check_reads, generators
from .steps import Steps, family

logger = logging.getLogger("latent-clip")

FEW = 8
"""Steps beyond which a gradient through all of them is no longer cheap."""
MEMORIES = ("model_outputs", "ets", "derivatives")
"""Where schedulers keep earlier steps."""


def reno(
    pipe: Any,
    reward: Reward,
    settings: ReNOSettings | None = None,
    held_out: Reward | None = None,
    seed: int = 0,
    space: str | None = None,
    on_step: Callable[[Any], None] | None = None,
    **call: Any,
) -> Chosen:
    """Search better noise for a picture, by gradients through the pipeline (see `lclip.reno`).

    The first render is what the pipeline gives for torch.Generator("cpu").manual_seed(seed). on_step: is
    given every `ReNOStep`. call: the pipeline's own arguments; one prompt. The pipeline must lie on its
    device as a whole: no offloading. ValueError as for `lclip.reno`.
    """
    form = PipelineLatents.of(pipe, space, call.get("height"), call.get("width"))
    check_reads(reward, form)
    check_call(pipe, (*call, "latents"))
    if call.get("num_inference_steps", 1) > FEW:
        logger.warning(
            "ReNO back-propagates through %s steps; it is meant for few. Use RewardGuidance for many.",
            call["num_inference_steps"],
        )
    noise, state = _noise(form, call, seed)
    settings = settings or ReNOSettings(seed=seed)
    with _frozen(pipe):
        run = ReNORun(_generate(form, call, state), noise, reward, settings, held_out)
        for step in run:
            if on_step is not None:
                on_step(step)
    result = run.result()
    best = result.best_latents
    return Chosen(form.decode(best), best, result.best_reward, [seed], result)


def _noise(form: PipelineLatents, call: dict[str, Any], seed: int) -> tuple[Tensor, Tensor]:
    """The noise that a pipeline draws for that seed, [1, C, h, w], and the generator's state after it."""
    from diffusers.utils.torch_utils import randn_tensor

    pipe, cell = form.pipe, form.space.factor * form.form.cell
    pixels = [call.get(name) or _usual_side(form) for name in ("height", "width")]
    shape = (1, form.space.channels, *(p // cell * cell // form.space.factor for p in pixels))
    generator = torch.Generator("cpu").manual_seed(seed)
    model = denoiser(pipe)
    dtype = torch.float32 if _float32_latents(pipe) else model.dtype
    noise = randn_tensor(shape, generator=generator, device=model.device, dtype=dtype)
    return noise, generator.get_state()


def _usual_side(form: PipelineLatents) -> int:
    """Pixels a side of the pictures that a pipeline makes where nobody says how large."""
    pipe = form.pipe
    size = getattr(pipe, "default_sample_size", None) or denoiser(pipe).config.get("sample_size")
    if not isinstance(size, int):
        raise ValueError("how large the pipeline's pictures are is not known; give height and width")
    return size * getattr(pipe, "vae_scale_factor", form.space.factor)


def _float32_latents(pipe: Any) -> bool:
    """Z-Image keeps its latents in float32, whatever its transformer computes in."""
    return type(pipe).__name__.startswith("ZImage")


def _generate(form: PipelineLatents, call: dict[str, Any], state: Tensor) -> Callable[[Tensor], Tensor]:
    """noise [1, C, h, w] -> raw latents, differentiable; the same noise gives the same latents."""
    pipe = form.pipe
    ask = inspect.unwrap(type(pipe).__call__)  # without the no_grad that pipelines put around it
    given = {**call, "prompt": one_prompt(call)}

    def generate(noise: Tensor) -> Tensor:
        generator = torch.Generator("cpu")
        generator.set_state(state)
        start = form.form.start(noise)
        found = latents_from(pipe, partial(ask, pipe), **given, latents=start, generator=generator)
        return form.to_raw(found)

    return generate


@contextmanager
def _frozen(pipe: Any) -> Iterator[None]:
    """No weight of the pipeline collects a gradient meanwhile."""
    modules = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    trained = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def denoiser(pipe: Any) -> Any:
    """The module that a pipeline samples with. ValueError where it has none."""
    found = getattr(pipe, "transformer", None) or getattr(pipe, "unet", None)
    if found is None:
        raise ValueError(f"the pipeline {type(pipe).__name__} has neither a transformer nor a unet")
    return found


def race(
    pipe: Any,
    reward: Reward,
    settings: RaceSettings | None = None,
    seed: int = 0,
    space: str | None = None,
    **call: Any,
) -> Chosen:
    """Start many candidates, drop those that fall behind, decode the best (see `lclip.race`).

    Each candidate is what the pipeline gives for its seed alone, and who is out is not shown to the model any
    more. settings.seed, or seed where there are none, is the first candidate's. call: the pipeline's own
    arguments; one prompt. ValueError for settings that cannot be raced, and "resample" with a scheduler that
    remembers earlier steps.
    """
    form = PipelineLatents.of(pipe, space, call.get("height"), call.get("width"))
    check_reads(reward, form)
    check_call(pipe, call)
    settings = settings or RaceSettings(seed=seed)
    if settings.method == "resample" and any(hasattr(pipe.scheduler, name) for name in MEMORIES):
        raise ValueError(
            f"{family(pipe.scheduler)}Scheduler remembers earlier steps, which resampling would mix; take "
            "method='prune', or EulerAncestralDiscreteScheduler"
        )
    run = RaceRun(
        _noise(form, call, settings.seed)[0],
        reward,
        replace(settings, places=None),
        draw=lambda other: _noise(form, call, other)[0],
    )
    given = {**call, "prompt": [one_prompt(call)] * len(settings.seeds)}
    if settings.method == "draft":
        run.draft(_steps_of(pipe, call), lambda: _whole_field(form, run, given, settings.draft_steps))
    result = run.result(_whole_field(form, run, given))
    return Chosen(form.decode(result.latents), result.latents, result.rewards, result.seeds, result)


def _whole_field(
    form: PipelineLatents, run: RaceRun, given: dict[str, Any], few: int | None = None
) -> Tensor:
    """Raw latents of all candidates, of which the model sees who is in. few: in that many steps."""
    if few is not None:
        given = {**given, "num_inference_steps": few}
    field, steps = Field(run, form), Steps.of(form.pipe.scheduler)
    steps.add(field, field.watch, field.rows, lasting=True)
    try:
        with field.only_running(denoiser(form.pipe)):
            given = {**given, "generator": generators(run.settings.seeds)}
            return form.to_raw(latents_from(form.pipe, form.pipe, **given))
    finally:
        steps.remove(field)


def _steps_of(pipe: Any, call: dict[str, Any]) -> int:
    """How many steps a call takes. ValueError where the caller gives the schedule itself."""
    if own := [name for name in ("timesteps", "sigmas") if call.get(name) is not None]:
        raise ValueError(f"a draft chooses its own steps; give num_inference_steps in place of {own[0]}")
    return steps_of(pipe, call)
