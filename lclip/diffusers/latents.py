"""Whose latents a pipeline makes, and the way from its own form of them to raw latents and to pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..adapters.adapter import apply_adapter
from ..adapters.shipped import SHIPPED, shipped_adapter
from ..latents.spaces import LatentSpace, require_space, space_centred, space_named, space_scaled_by
from ..model.latent_clip import LatentCLIP
from .calls import NoLatents
from .forms import FOLDING, PACK, Planes, form_of
from .grids import last_grid, look_on

TINY = "AutoencoderTiny"


def pipeline_space(pipe: Any, space: str | None = None) -> LatentSpace:
    """The latent space of a pipeline, by its VAE's configuration.

    space: its name, for a VAE that does not say it, such as TAESD. ValueError where it is not known, or where
    the VAE has other channels.
    """
    vae = getattr(pipe, "vae", None)
    if vae is None:
        raise ValueError(
            f"the pipeline {type(pipe).__name__} has no VAE, so nothing says whose latents it makes; "
            "expected a latent diffusion pipeline with its VAE"
        )
    config, kind = vae.config, type(vae).__name__
    found = space_named(space) if space else _stated(config, kind)
    if found is None:
        raise ValueError(
            f"the pipeline's VAE, {kind} with scaling factor {config.get('scaling_factor')}, shift "
            f"{config.get('shift_factor')} and {_channels(config, kind)} channels, is of no latent "
            'space that is known; name it: space="sdxl"'
        )
    channels = _channels(config, kind)
    if channels != found.channels:
        raise ValueError(
            f"the pipeline's VAE makes latents with {channels} channels; {found.title} have {found.channels}"
        )
    return found


def _channels(config: Any, kind: str) -> int | None:
    """Of raw latents, as its pipeline samples them."""
    channels = config.get("latent_channels", config.get("z_dim"))
    return channels * PACK * PACK if channels and kind == FOLDING else channels


def _stated(config: Any, kind: str) -> LatentSpace | None:
    scale, channels = config.get("scaling_factor"), _channels(config, kind)
    if kind == TINY or channels is None:
        return None
    if kind == FOLDING:  # whose batch norm is a part of it
        return space_named("flux2")
    if config.get("latents_mean") is not None:
        return space_centred(config["latents_mean"], config["latents_std"])
    return None if scale is None else space_scaled_by(channels, scale, config.get("shift_factor"))


def reader(model: LatentCLIP, pipe: Any, space: str | None = None) -> LatentCLIP:
    """The Latent-CLIP as it reads this pipeline's latents: itself, or behind the adapter that is shipped.

    Raises ValueError where there is none.
    """
    made, reads = pipeline_space(pipe, space).name, model.config.latent_space
    if made == reads:
        return model
    if reads == "sdxl" and made in SHIPPED:
        return apply_adapter(model, shipped_adapter(made, next(model.parameters()).device))
    advice = "Train an adapter between them: lclip.train_adapter, then lclip.apply_adapter."
    require_space(reads, made, "this Latent-CLIP", "the pipeline makes", advice)
    return model


def check_reads(what: Any, latents: PipelineLatents) -> None:
    """Refuse a reward, policy or model for other latents than the pipeline's, by name. Raises ValueError."""
    config = getattr(what, "config", what)
    reads = getattr(config, "latent_space", None)
    if reads is not None:
        advice = "Make it with lclip.diffusers.reader(model, pipe), which puts the shipped adapter before it."
        require_space(reads, latents.space.name, "what you give", "the pipeline makes", advice)


@dataclass(frozen=True)
class PipelineLatents:
    """A pipeline's latents, in its own form and raw.

    Its own form is scaled for sampling, and some pack it into tokens; see `forms`. height, width: pixels of
    the pictures; tokens of a call that was not watched need them, see `grids`.
    """

    pipe: Any
    space: LatentSpace
    height: int | None = None
    width: int | None = None

    @classmethod
    def of(
        cls, pipe: Any, space: str | None = None, height: int | None = None, width: int | None = None
    ) -> PipelineLatents:
        """For a pipeline, whose calls are watched from now on. Raises as `pipeline_space` does."""
        found = cls(pipe, pipeline_space(pipe, space), height, width)
        if found.form.tokens:
            look_on(pipe.transformer)
        return found

    @cached_property
    def form(self) -> Planes:
        """How the pipeline keeps them."""
        return form_of(self.pipe)

    def to_raw(self, latents: Any) -> Tensor:
        """As the pipeline has them, or gives them with output_type="latent" -> raw [B, C, h, w].

        ValueError for pictures, and for latents of another form.
        """
        if not isinstance(latents, Tensor):
            raise NoLatents(
                f"the pipeline {type(self.pipe).__name__} gave {_kind(latents)}, not latents: it decodes by "
                'itself; expected one that obeys output_type="latent"'
            )
        tokens = self.form.tokens and latents.ndim == 3
        planes = self._unpacked(latents) if tokens else self.form.sampled(latents)
        if planes.ndim != 4 or planes.shape[1] != self.space.channels:
            raise NoLatents(
                f"the pipeline {type(self.pipe).__name__} gave a tensor of shape {list(latents.shape)}; "
                f"expected {self.space.title}: [B, {self.space.channels}, h, w]"
            )
        return self.space.to_raw(planes.to(torch.promote_types(planes.dtype, torch.float32)))

    def from_raw(self, raw: Tensor, like: Tensor) -> Tensor:
        """Raw latents in the pipeline's form; shape of rows, precision and device as those of `like`."""
        return self.as_form(self.space.to_sampler(raw), like)

    def as_form(self, planes: Tensor, like: Tensor) -> Tensor:
        """What has the shape of latents [B, C, h, w], as tokens where `like` is, in its precision."""
        planes = self.form.packed(planes) if self.form.tokens and like.ndim == 3 else planes
        return planes.to(like)

    def _unpacked(self, tokens: Tensor) -> Tensor:
        """[B, L, ...] -> [B, C, h, w]"""
        return self.form.unpacked(tokens, *self._cells(tokens.shape[1]))

    def _cells(self, number: int) -> tuple[int, int]:
        """How many tokens high and wide the picture is."""
        if not (self.height or self.width):
            return self._seen(number)
        cell = self.space.factor * self.form.cell
        high = self.height // cell if self.height else 0
        wide = self.width // cell if self.width else 0
        high, wide = high or number // max(1, wide), wide or number // max(1, high)
        if high * wide != number:
            raise ValueError(
                f"{number} tokens of latents are no picture of {self.height} x {self.width} pixels; give the "
                "height and width that the pipeline is called with"
            )
        return high, wide

    def _seen(self, number: int) -> tuple[int, int]:
        """The grid of the pipeline's last call."""
        found = last_grid(self.pipe.transformer)
        if found is None or found[0] * found[1] != number:
            raise ValueError(
                f"{number} tokens of latents may be a picture of several shapes, and the call that made them "
                "was not seen; give the height and width that the pipeline was called with"
            )
        return found

    def grey(self, like: Tensor) -> Tensor:
        """Raw latents of a grey picture, through the pipeline's VAE: shaped as raw `like` [B, C, h, w]."""
        vae, factor = self.pipe.vae, self.space.factor
        pixels = torch.zeros(1, 3, like.shape[-2] * factor, like.shape[-1] * factor)
        with torch.no_grad(), _in_float32(vae):
            if type(vae).__name__ == TINY:
                found = vae.encode(pixels.to(vae.device, vae.dtype))
                grey = self.space.to_raw(found.latents.float() * vae.config.scaling_factor)
            else:
                grey = self.form.encoded(pixels.to(vae.device, vae.dtype))
        return grey.to(like).expand_as(like)

    def decode(self, raw: Tensor) -> list[Image.Image]:
        """The pictures of raw latents [B, C, h, w]; none for none."""
        if not len(raw):
            return []
        vae = self.pipe.vae
        z = self.space.to_sampler(raw) / vae.config.scaling_factor if type(vae).__name__ == TINY else raw
        with torch.no_grad(), _in_float32(vae):
            pixels = torch.cat([self.form.decoded(one.to(vae.device, vae.dtype)) for one in z.split(1)])
        return self.pipe.image_processor.postprocess(pixels.float(), output_type="pil")


class _in_float32:  # noqa: N801  # a context manager
    """A VAE that overflows in float16, as its configuration says, computes in float32 meanwhile."""

    def __init__(self, vae: Any) -> None:
        self.vae = vae
        self.wide = vae.dtype == torch.float16 and bool(vae.config.get("force_upcast"))

    def __enter__(self) -> None:
        if self.wide:
            self.vae.to(torch.float32)

    def __exit__(self, *_: Any) -> None:
        if self.wide:
            self.vae.to(torch.float16)


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """A generator on the CPU for each seed, as pipelines take them for the items of a batch."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def _kind(value: Any) -> str:
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    return f"{type(first).__name__}s" if first is not value else type(value).__name__
