"""One call of a sampler as a noise search sees it: what the host passed in, and renders made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import comfy.model_management as management
import torch
from torch import Tensor, nn

from .anew import RendersAnew
from .gradients import plain_copy, render_options
from .remembered import roots_of
from .rows import with_rows


class ItemsMixed(Exception):  # noqa: N818  # no error: it says how to go on
    """The model carries a step cache, which decides for a batch as a whole: an item's render would depend on
    what stands beside it, so that items must be rendered alone."""


class Scene:
    """One call of the sampler: what the host passed in, and what the search makes of it."""

    def __init__(
        self,
        stock: Any,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        noise: Tensor,
        latent_image: Tensor | None,
        denoise_mask: Tensor | None,
    ) -> None:
        self.model_wrap, self.extra_args = model_wrap, extra_args
        self.sigmas, self.noise = sigmas, noise
        self.latent_image, self.denoise_mask = latent_image, denoise_mask
        self.stock = stock
        self.device = noise.device

    @property
    def to_raw(self) -> Callable[[Tensor], Tensor]:
        return self.model_wrap.inner_model.process_latent_out

    def room(self, factor: float) -> float:
        """Bytes that one pass of this batch through the model needs, times a factor."""
        return factor * self.model_wrap.inner_model.memory_required(list(self.noise.shape))

    @property
    def passes(self) -> int:
        """How often one render runs the model, at least: a gradient keeps what each pass leaves."""
        guided = float(getattr(self.model_wrap, "cfg", 1.0)) != 1.0
        return max(1, len(self.sigmas) - 1) * (2 if guided else 1)

    def other_modules(self) -> Iterator[nn.Module]:
        """ControlNets and other models that the conditioning brought along."""
        for loaded in self.model_wrap.loaded_models:
            if isinstance(model := getattr(loaded, "model", None), nn.Module):
                yield model

    @contextmanager
    def prepared(self, item: int | None = None, differentiable: bool = True) -> Iterator[Prepared]:
        """The whole batch, or one item of it, as tensors that a gradient may pass, and renders that pass it.

        differentiable: False leaves the model's attention as it is.
        """
        own = partial(plain_copy, item=item, batch=self.noise.shape[0])
        conds = self.model_wrap.conds
        self.model_wrap.conds = own(conds)
        try:
            inputs = (own(self.noise), self.sigmas.clone(), own(self.latent_image), own(self.denoise_mask))
            with closing(self._renders_anew()) as renders_anew:
                yield Prepared(self, *inputs, renders_anew, differentiable, item)
        finally:
            self.model_wrap.conds = conds

    def _renders_anew(self) -> RendersAnew:
        patcher = self.model_wrap.model_patcher
        options = (self.extra_args["model_options"], self.model_wrap.model_options)
        return RendersAnew(roots_of(patcher, *options), patcher.model)


@dataclass(frozen=True)
class Prepared:
    """The inputs of one search."""

    scene: Scene
    noise: Tensor
    sigmas: Tensor
    latent_image: Tensor | None
    denoise_mask: Tensor | None
    renders_anew: RendersAnew
    differentiable: bool
    item: int | None = None
    """The one item of the batch that this is about; None: all of it."""

    @property
    def to_raw(self) -> Callable[[Tensor], Tensor]:
        return self.scene.to_raw

    def generate(self, noise: Tensor) -> Tensor:
        """Noise -> latents in the sampler's scale, by the stock sampler; its own randomness repeats every
        time."""
        management.throw_exception_if_processing_interrupted()
        found = self.renders_anew(partial(self._render, noise))
        if self.renders_anew.needed and self.item is None and len(self.scene.noise) > 1:
            raise ItemsMixed
        return found

    def _render(self, noise: Tensor) -> Tensor:
        scene = self.scene
        sigmas = self.sigmas.clone()  # a sampler may write into what it is given: uni_pc does
        options = render_options(
            scene.extra_args["model_options"],
            sigmas,
            scene.model_wrap.conds,
            self.differentiable,
        )
        if self.item is not None:
            options = with_rows(options, [self.item])
        extra_args = {**scene.extra_args, "model_options": options}
        with torch.random.fork_rng(devices=[scene.device] if scene.device.type == "cuda" else []):
            return scene.stock.sample(
                scene.model_wrap,
                sigmas,
                extra_args,
                None,
                noise,
                plain_copy(self.latent_image),
                plain_copy(self.denoise_mask),
                True,
            )
