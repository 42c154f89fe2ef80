"""A race as a SAMPLER: many candidates start in a stock sampler, and the model is spared those that fall
behind.

The stock sampler holds the whole field from the first step to the last, so that its history and schedule are
as ever; only the guider that it asks is `field.Field`, which runs the model for those still in. No gradient
is needed, so any MODEL will do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from typing import Any

import comfy.model_management as management
import comfy.sample
import comfy.samplers
import torch
from torch import Tensor

from ... import lclip
from ...lclip.choosing.race import NO_X0
from ...lclip.latents.frames import why_no_pictures
from ...lclip.latents.items import repeated
from ...lclip.rewards.per_item import in_raw_latents, of_batch
from .. import draw
from . import memory, models
from .draws import Draws, takes_noise
from .field import Field
from .finds import Finds
from .gradients import stock_sampler
from .starts import check_start

logger = logging.getLogger("latent-clip")

Callback = Callable[[int, Tensor, Tensor, int], None]

WHOLE_FIELD = ("dpm_adaptive",)
"""Samplers that choose their steps by the whole batch: a candidate would depend on the others."""


class RaceSampler(comfy.samplers.Sampler):
    """A SAMPLER that starts many candidates for each batch item and gives the best that finish."""

    renders_many = True
    """A guard judges what it gives, not what is dropped on the way; see `exits`."""

    def __init__(
        self,
        reward: models.WiredReward,
        sampler_name: str,
        settings: lclip.RaceSettings,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """tell: is told in words, check by check."""
        if sampler_name in WHOLE_FIELD:
            raise ValueError(
                f"The sampler {sampler_name!r} chooses its steps by the whole batch, so that a candidate "
                "would depend on the others. Take one with fixed steps, such as euler or dpmpp_2m."
            )
        self.reward, self.sampler_name, self.settings = reward, sampler_name, settings
        self.tell = tell
        self.numbers: list[int] | None = None
        self.finds: Finds[lclip.RaceResult] = Finds()

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callback | None,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        """Called by a guider, in inference mode; everything is in the sampler's own scale."""
        self._check(model_wrap.model_patcher, sigmas, noise, latent_image)
        at_once = self._load(model_wrap, noise)
        settings = replace(self.settings, seed=extra_args.get("seed") or 0, at_once=at_once)
        to_raw = model_wrap.inner_model.process_latent_out
        drawn = _drawing(noise, self.numbers)
        reward = in_raw_latents(of_batch(self.reward.reward, len(noise), settings.places), to_raw)
        run = lclip.RaceRun(noise, reward, settings, drawn, self._say)
        field = Field(model_wrap, run, extra_args["model_options"])
        times = settings.candidates
        wide = [each if each is None else repeated(each, times) for each in (latent_image, denoise_mask)]

        def lap(levels: Tensor) -> _Lap:
            stock, draws = self._stock(noise, levels, settings.seeds)
            return _Lap(stock, field, run, levels.clone(), dict(extra_args), callback, disable_pbar, draws)

        whole = lap(sigmas)
        with closing(field):
            if settings.method == "draft":
                run.draft(len(sigmas) - 1, lambda: lap(settings.draft_levels(sigmas)).pruned(*wide))
            result = run.result((whole.steered if settings.method == "resample" else whole.pruned)(*wide))
        if callback is not None:  # the last preview, and the host's second output, are the winners
            callback(len(sigmas) - 2, result.latents, result.latents, len(sigmas) - 1)
        self._keep(model_wrap, result, len(noise))
        self._log(result)
        return result.latents

    def _stock(self, noise: Tensor, sigmas: Tensor, seeds: list[int]) -> tuple[Any, Draws | None]:
        """The sampler, and what it draws on the way, afresh for each time that it runs."""
        stock = stock_sampler(self.sampler_name, undecorated=False)
        if not takes_noise(stock):
            return stock, None
        draws = Draws(self.sampler_name, noise, sigmas, seeds)
        stock.extra_options = {**stock.extra_options, "noise_sampler": draws}
        return stock, draws

    def _keep(self, model_wrap: Any, result: lclip.RaceResult, batch: int) -> None:
        """For wires: raw latents, on the host's device. A batch has the seed of its first item."""
        raw = memory.to_host(model_wrap.inner_model.process_latent_out(result.latents))
        noise, seeds = memory.to_host(result.noise), result.seeds[::batch]
        self.finds.add(model_wrap.model_patcher, raw, noise, result.rewards, seeds, result)

    def _check(self, patcher: Any, sigmas: Tensor, noise: Tensor, latent_image: Tensor | None) -> None:
        if (why := why_no_pictures(noise)) is not None:
            raise ValueError(f"A race works on pictures: {why}")
        check_start(patcher, self.reward.models, noise, latent_image)
        if float(sigmas[-1]) != 0:
            raise ValueError(
                f"The sigmas end at {float(sigmas[-1]):.4f}; expected 0. A race ends with finished latents: "
                "wire the whole schedule, not the first part of a split one."
            )

    def _load(self, model_wrap: Any, noise: Tensor) -> int:
        """Bring model and judge in together. -> how many candidates fit beside them at once."""
        inner, patcher = model_wrap.inner_model, model_wrap.model_patcher
        one = 2 * inner.memory_required([1, *noise.shape[1:]])  # with and without the prompt
        models.load_beside(model_wrap, self.reward.models, one, whole=False)
        return max(1, int(management.get_free_memory(patcher.load_device) // max(one, 1)))

    def _say(self, check: lclip.RaceCheck) -> None:
        if self.tell is not None:
            known = check.rewards[torch.isfinite(check.rewards)]
            said = draw.words.said
            left = {"left": int(check.kept.sum()), "field": check.kept.numel()}
            at = {"step": check.step, "steps": check.steps}
            text = said("step {step} of {steps}: {left} of {field} left", **at, **left)
            text = text if check.step else said("drafts: {left} of {field} left", **left)
            if len(known):
                best = f"{float(known.max()):.4f}"
                text = said("{text}, best reward {reward}", text=text, reward=best)
            self.tell(text)

    def _log(self, result: lclip.RaceResult) -> None:
        logger.info(
            "Race: %d passes instead of %d; the winners are candidates %s with rewards %s.",
            result.passes,
            result.passes_all,
            result.places,
            [round(value, 4) for value in result.rewards.tolist()],
        )


class _Lap:
    """One call of the stock sampler, or of parts of it, with the field in the guider's place."""

    def __init__(
        self,
        stock: Any,
        field: Field,
        run: lclip.RaceRun,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callback | None,
        quiet: bool,
        draws: Draws | None,
    ) -> None:
        self.stock, self.field, self.run = stock, field, run
        self.sigmas, self.extra_args = sigmas, extra_args
        self.callback, self.quiet, self.draws = callback, quiet, draws
        self.steps = len(sigmas) - 1
        self.x0: Tensor | None = None

    def pruned(self, latent_image: Tensor | None, mask: Tensor | None) -> Tensor:
        """From the first step to the last in one call: the sampler never notices."""

        def look(step: int, x0: Tensor, x: Tensor, total: int) -> None:
            self.run.watch(step, self.steps, x0)
            if self.draws is not None:
                self.draws.running = self.run.running
            self._show(step, x0, x)

        noise = self.run.noise
        return self.stock.sample(
            self.field, self.sigmas, self.extra_args, look, noise, latent_image, mask, self.quiet
        )

    def steered(self, latent_image: Tensor | None, mask: Tensor | None) -> Tensor:
        """From check to check, resampled in between. A sampler with a history begins it anew."""
        sampling = self.field.inner_model.model_sampling
        guided = comfy.samplers.KSamplerX0Inpaint(self.field, self.sigmas)
        guided.latent_image, guided.noise = latent_image, self.run.noise
        whole = self.stock.max_denoise(self.field, self.sigmas)
        x = sampling.noise_scaling(self.sigmas[0], self.run.noise, latent_image, whole)
        ends = [0, *self.run.settings.steps_judged(self.steps), self.steps]
        for start, end in pairwise(ends):
            x = self._stretch(guided, x, start, end, mask)
            if self.x0 is None:
                raise ValueError(NO_X0)
            rows = self.run.watch(end - 1, self.steps, self.x0)
            if rows is not None:
                x, guided.noise = x[rows], guided.noise[rows]
        return sampling.inverse_noise_scaling(self.sigmas[-1], x)

    def _stretch(self, guided: Any, x: Tensor, start: int, end: int, mask: Tensor | None) -> Tensor:
        def look(info: dict[str, Any]) -> None:
            self.x0 = info["denoised"]
            self._show(start + info["i"], info["denoised"], info["x"])

        x = self.stock.sampler_function(
            guided,
            x,
            self.sigmas[start : end + 1].clone(),
            extra_args={**self.extra_args, "denoise_mask": mask},
            callback=look,
            disable=True,
            **self.stock.extra_options,
        )
        if self.draws is not None and not self.draws.drawn and self.steps == 1:
            raise ValueError(
                "With one step no noise is drawn on the way, so that copies of a candidate stay copies: "
                "more steps are needed. Set steps to 2 or more, or method to prune."
            )
        if self.draws is None or not self.draws.drawn:
            raise ValueError(
                "This sampler draws no noise on the way, so that copies of a candidate would stay copies. To "
                "resample take a stochastic one, such as euler_ancestral, or set method to prune."
            )
        return x

    def _show(self, step: int, x0: Tensor, x: Tensor) -> None:
        if self.callback is not None:
            rows = self.run.leaders().to(x0.device)
            self.callback(step, x0[rows], x[rows], self.steps)


def _drawing(noise: Tensor, numbers: list[int] | None) -> Callable[[int], Tensor]:
    """seed -> the noise that the host draws by it for these latents."""
    like = torch.empty(noise.shape, dtype=torch.float32, device="cpu")
    return lambda seed: comfy.sample.prepare_noise(like, seed, numbers)
