"""The sampling half of `host`: noise search as a SAMPLER that runs inside the host's own samplers.

The search calls the stock sampler again and again with other noise. Guider, conditioning, LoRA, ControlNet,
noise mask and schedule are the host's, so that its first render is what the stock sampler gives.

Inference mode. Nodes run in it, and a tensor made in it can never take part in a gradient. So every model is
loaded first, still in that mode and all at once; then the mode is left, weights and inputs that were born in
it are replaced by clones, and the search runs. Nothing may be loaded or evicted in between: a weight that is
moved outside of the mode claims to be an ordinary tensor but is none, and later even stock sampling would
fail on it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import comfy.model_management as management
import comfy.samplers
import comfy.utils
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ... import lclip
from ...lclip.latents.frames import why_no_pictures
from ...lclip.rewards.per_item import in_raw_latents, looks_across, of_batch, rows_of
from ...lclip.rewards.rewards import Reward
from .. import draw
from . import memory, models
from .finds import Finds
from .gradients import (
    NoGradientError,
    checkpointed,
    make_differentiable,
    refuse_control_attention,
    refuse_hooks,
    refuse_partly_loaded,
    refuse_undifferentiable,
    stock_sampler,
    whole_model,
)
from .guidance import looks_across_items
from .outcome import SearchOutcome
from .scene import ItemsMixed, Prepared, Scene
from .starts import check_start

logger = logging.getLogger("latent-clip")

GRADIENT_MEMORY = 30
"""What back-propagation keeps of each pass through the model, in multiples of what the host reserves for one.
SDXL in fp16 was seen to keep 25 at 512 px and 21 at 1024 px."""
CHECKPOINTED_MEMORY = 8
"""The same with activation checkpointing; SDXL was seen to keep 7 and 3."""


class NoiseSearch(comfy.samplers.Sampler):
    """A SAMPLER that searches the noise of a stock sampler for a better reward."""

    renders_many = True
    """A guard judges what it finds, not what it renders on the way; see `exits`."""

    def __init__(
        self,
        reward: models.WiredReward,
        sampler_name: str,
        settings: lclip.ReNOSettings,
        checkpointing: str = "auto",
        held_out: models.WiredReward | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """tell: is told in words, render by render."""
        self.reward, self.held_out = reward, held_out
        self.sampler_name, self.settings = sampler_name, settings
        self.checkpointing, self.tell = checkpointing, tell
        self.finds: Finds[SearchOutcome] = Finds()

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callable[[int, Tensor, Tensor, int], None] | None,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        """Called by a guider, in inference mode; everything is in the sampler's own scale."""
        patcher = model_wrap.model_patcher
        self._check(patcher, sigmas, noise, latent_image)
        settings = replace(self.settings, seed=extra_args.get("seed") or 0)
        stock = stock_sampler(self.sampler_name, undecorated=self.with_gradient)
        scene = Scene(stock, model_wrap, sigmas, extra_args, noise, latent_image, denoise_mask)
        report = _Report(callback, settings.renders, noise.shape[0], disable_pbar, self.tell)
        try:
            search = self._search_with_gradient if self.with_gradient else self._search_without
            return self._finish(scene, search(scene, settings, report))
        finally:
            report.close()

    def _search_without(
        self, scene: Scene, settings: lclip.ReNOSettings, report: _Report
    ) -> list[lclip.ReNOResult]:
        models.load_beside(scene.model_wrap, self._models(), scene.room(1), whole=False)
        try:
            with scene.prepared(differentiable=False) as prepared:
                return [self._search(prepared, settings, report)]
        except ItemsMixed:
            self._refuse_alone(scene.model_wrap.model_patcher)
        return self._one_by_one(scene, settings, report, differentiable=False)

    def _search_with_gradient(
        self, scene: Scene, settings: lclip.ReNOSettings, report: _Report
    ) -> list[lclip.ReNOResult]:
        refuse_undifferentiable(scene.model_wrap.model_patcher, self.sampler_name)
        refuse_hooks(scene.model_wrap.conds)
        refuse_control_attention(scene.model_wrap.conds)
        with whole_model(scene.model_wrap) as patcher:
            return self._search_whole(patcher, scene, settings, report)

    def _search_whole(
        self, patcher: Any, scene: Scene, settings: lclip.ReNOSettings, report: _Report
    ) -> list[lclip.ReNOResult]:
        lean = self.checkpointing == "on"
        room, least = (scene.room(each * scene.passes) for each in (GRADIENT_MEMORY, CHECKPOINTED_MEMORY))
        models.load_beside(scene.model_wrap, self._models(), least if lean else room, whole=True)
        refuse_partly_loaded(patcher)
        if self.checkpointing == "auto":
            lean = management.get_free_memory(patcher.load_device) < room
        logger.info("ReNO runs %s activation checkpointing.", "with" if lean else "without")
        with torch.inference_mode(False):
            for module in (
                patcher.model,
                *scene.other_modules(),
                *(loaded.model for loaded in self._models()),
            ):
                make_differentiable(module)
            try:
                with checkpointed(patcher.model if lean else None), scene.prepared() as prepared:
                    return [self._search(prepared, settings, report)]
            except ItemsMixed:
                self._refuse_alone(patcher)
                mixed = True
            except Exception as error:  # go on outside of this clause: its traceback keeps the graph
                if not memory.is_out_of_memory(error):
                    raise
                mixed = False
            if mixed:
                with checkpointed(patcher.model if lean else None):
                    return self._one_by_one(scene, settings, report)
            whole = self._looks_across(patcher)
            how = "the whole batch, whose items look at each other" if whole else "one item at a time"
            logger.warning("ReNO ran out of memory. Trying once more with activation checkpointing, %s.", how)
            management.soft_empty_cache()
            with checkpointed(patcher.model):
                return (self._together if whole else self._one_by_one)(scene, settings, report)

    @property
    def cautions(self) -> list[str]:
        """What is odd about its rewards."""
        return [*self.reward.cautions, *(self.held_out.cautions if self.held_out else ())]

    @property
    def with_gradient(self) -> bool:
        return self.settings.method == "gradient" and self.settings.iterations > 1

    def _looks_across(self, patcher: Any) -> bool:
        """Whether what is done to an item depends on the others of its batch."""
        return looks_across(self.reward.reward) or looks_across_items(patcher)

    def _refuse_alone(self, patcher: Any) -> None:
        """ValueError where items that must be rendered alone look at each other."""
        if self._looks_across(patcher):
            raise ValueError(
                "The model carries a patch that keeps something from step to step, such as a step cache, and "
                "decides by the whole batch; so each item must be searched alone. But a Variety Reward looks "
                "at all of them. Take the node that patches the model so out, or the Variety Reward."
            )
        logger.warning(
            "The model carries a step cache, which decides by the whole batch: one item at a time."
        )

    def _together(
        self, scene: Scene, settings: lclip.ReNOSettings, report: _Report
    ) -> list[lclip.ReNOResult]:
        try:
            with scene.prepared() as prepared:
                return [self._search(prepared, settings, report)]
        except Exception as error:
            if not memory.is_out_of_memory(error):
                raise
            raise ValueError(
                f"The batch of {scene.noise.shape[0]} does not fit into memory, and it cannot be searched "
                "one item at a time: a Variety Reward looks at all of it. Take a smaller batch or picture, "
                "or another method than gradient."
            ) from error

    def _one_by_one(
        self, scene: Scene, settings: lclip.ReNOSettings, report: _Report, differentiable: bool = True
    ) -> list[lclip.ReNOResult]:
        results = []
        for item in range(scene.noise.shape[0]):
            report.start(item)
            with scene.prepared(item, differentiable) as prepared:
                place = item if settings.places is None else settings.places[item]
                results.append(self._search(prepared, replace(settings, places=(place,)), report))
        return results

    def _search(self, prepared: Prepared, settings: lclip.ReNOSettings, report: _Report) -> lclip.ReNOResult:
        held_out = None if self.held_out is None else self._asked(self.held_out, prepared)
        run = lclip.ReNORun(
            prepared.generate, prepared.noise, self._asked(self.reward, prepared), settings, held_out
        )
        try:
            for step in run:
                management.throw_exception_if_processing_interrupted()
                report(step)
        except RuntimeError as error:
            if "Inference tensors cannot be saved" not in str(error):
                raise
            raise NoGradientError(
                "A patch on the model (an adapter or attention patch of another node) brings tensors that no "
                "gradient can pass. Take that node out."
            ) from error
        return run.result()

    def _asked(self, wired: models.WiredReward, prepared: Prepared) -> Reward:
        """A reward as the search asks it, for the item that is searched alone or for the whole batch."""
        reward = of_batch(wired.reward, len(prepared.scene.noise), self.settings.places)
        reward = reward if prepared.item is None else rows_of(reward, [prepared.item])
        return in_raw_latents(reward, prepared.to_raw)

    def _finish(self, scene: Scene, results: list[lclip.ReNOResult]) -> Tensor:
        outcome = SearchOutcome(results, scene.to_raw)
        best = outcome.gather("best_reward")
        outcome.log()
        if self.tell is not None:
            self.tell(outcome.summary())
        self.finds.add(
            scene.model_wrap.model_patcher,
            outcome.best_latents,
            outcome.gather("best_noise"),
            best,
            [scene.extra_args.get("seed") or 0],
            outcome,
        )
        return torch.cat([result.best_latents for result in results])

    def _models(self) -> list[models.LoadedLatentCLIP]:
        return [*self.reward.models, *(self.held_out.models if self.held_out else ())]

    def _check(self, patcher: Any, sigmas: Tensor, noise: Tensor, latent_image: Tensor | None) -> None:
        if (why := why_no_pictures(noise)) is not None:
            raise ValueError(f"ReNO improves pictures; these {why}")
        check_start(patcher, self._models(), noise, latent_image)
        if float(sigmas[-1]) != 0:
            raise ValueError(
                f"The sigmas end at {float(sigmas[-1]):.4f}; expected 0. A reward reads finished latents: "
                "wire the whole schedule, not the first part of a split one."
            )


class _Report:
    """Progress bar and live preview: one tick per render; a picture only where there is a better one."""

    def __init__(
        self,
        callback: Callable[[int, Tensor, Tensor, int], None] | None,
        renders: int,
        batch: int,
        quiet: bool,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.callback, self.renders, self.batch, self.tell = callback, renders, batch, tell
        self.done, self.best = 0, None
        self.ticks = comfy.utils.ProgressBar(renders)
        self.bar = tqdm(total=renders, disable=quiet, desc="ReNO")

    def start(self, item: int) -> None:
        """From now on one item at a time."""
        self.best = None
        if item == 0:
            self.bar.reset(total=self.renders * self.batch)
        self.renders = self.renders if item else self.renders * self.batch
        self.done = item * (self.renders // self.batch)

    def __call__(self, step: lclip.ReNOStep) -> None:
        best = f"{float(step.best_reward.mean()):.4f}"
        better = self.best is None or not torch.equal(self.best, step.best_reward)
        self.best = step.best_reward.clone()
        self.show(draw.words.said("best reward {reward}", reward=best), step.best_latents, better)

    def show(self, text: str, latents: Tensor, fresh: bool = True) -> None:
        """One more render, what is to be said of it, and what to show meanwhile. fresh: it is another picture
        than the last; a picture costs more than the rest."""
        self.bar.update()
        self.bar.set_postfix_str(text)
        if self.tell is not None:
            done = {"number": self.done + 1, "of": self.renders, "text": text}
            self.tell(draw.words.said("render {number} of {of}: {text}", **done))
        if self.callback is not None and fresh:
            with torch.inference_mode():
                self.callback(self.done, latents, latents, self.renders)
        elif self.callback is not None:
            self.ticks.update_absolute(self.done + 1, self.renders)
        self.done += 1

    def close(self) -> None:
        self.bar.close()
