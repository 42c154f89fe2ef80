"""An axis between two ends, each said by texts or shown by latents, and how far along it latents are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .rewards import (
    PUBLISHED_CLIP_SCALE,
    EmbeddingReward,
    finite_pictures,
    shorten,
    text_lines,
    usable_for_backward,
)

if TYPE_CHECKING:
    from ..model.latent_clip import LatentCLIP

SAME = 1e-4
"""Ends whose cosine is nearer to 1 are one and the same."""

TINY = 1e-12

End = str | Iterable[str] | Tensor


class SliderReward(EmbeddingReward):
    """How much nearer latents are to one end than to the other: weight x 0.01 x s x (cos(more) - cos(less)).

    less, more: what each end is: a text, or several (a list, or lines), whose mean counts; or a small group
    of clean raw latents [R, C, H, W]. Both are encoded once, here. weight: on the scale of `TextReward`; a
    negative one seeks the other end. ValueError: an end that is empty, ends that are the same to the model,
    or a weight that is not finite.
    """

    def __init__(
        self,
        model: LatentCLIP,
        less: End,
        more: End,
        weight: float = 1.0,
        name: str | None = None,
        size_rule: Any = None,
    ) -> None:
        ends = [_end(model, end, which, size_rule) for end, which in ((less, "less"), (more, "more"))]
        title = name or f"{_title(less)} to {_title(more)}"
        super().__init__(model, weight, title, size_rule)
        self.less, self.more = ends
        distance = 1 - float(self.less @ self.more)
        if not distance > SAME:
            raise ValueError(
                f"The ends of the slider are the same to this model, {title!r} (cosine {1 - distance:.4f}); "
                "expected two that differ in what the slider changes, such as a small house and a large one."
            )
        self.half = (distance / 2) ** 0.5
        """Half the distance between the ends: the unit of positions, as a length of embeddings."""

    @property
    def axis(self) -> Tensor:
        """From less to more, of length 1: [D]."""
        return (self.more - self.less) / (2 * self.half)

    def score_embedding(self, embedding: Tensor) -> Tensor:
        return PUBLISHED_CLIP_SCALE * self.model.logit_scale * (embedding @ self._along(embedding))

    def position(self, latents: Tensor) -> Tensor:
        """Where on the axis latents are: -1 is `less` itself, 1 is `more`. [B, C, H, W] -> [B]"""
        with torch.no_grad():
            return self.position_of(self.embed(latents))

    def position_of(self, embedding: Tensor) -> Tensor:
        """The same of embeddings of length 1, [B, D] -> [B], differentiable."""
        return embedding @ self._along(embedding) / (2 * self.half**2)

    def off_axis(self, embedding: Tensor) -> Tensor:
        """What of embeddings [B, D] is no part of the axis: [B, D], differentiable."""
        axis = usable_for_backward(self.axis).to(embedding)
        return embedding - (embedding @ axis)[:, None] * axis

    def _along(self, embedding: Tensor) -> Tensor:
        return usable_for_backward(self.more - self.less).to(embedding)


class AxisPointReward(EmbeddingReward):
    """Minus the distance to a place on a slider's axis beside where each item started; every row has its own.

        r(z) = -sqrt((position - target)^2 + (anchor x |what is off the axis - the same of the start|)^2)

    in units of half the axis. slider: the axis. start: embeddings of the starts [B, D], of length 1. target:
    positions [B]. anchor: how much all counts that is no part of the axis; 0: not at all. It has as many rows
    as `start`; ValueError for a batch of another length.
    """

    def __init__(
        self,
        slider: SliderReward,
        start: Tensor,
        target: Tensor,
        anchor: float = 0.4,
        weight: float = 1.0,
        name: str = "slider",
    ) -> None:
        super().__init__(slider.model, weight, name, slider.size_rule)
        self.slider, self.anchor = slider, anchor
        self.start, self.target = start.detach(), target.detach()

    def beside(self, start: Tensor) -> AxisPointReward:
        """The same target, but all that is no part of the axis is held beside these embeddings."""
        return AxisPointReward(self.slider, start, self.target, self.anchor, self.weight, self.name)

    def score_embedding(self, embedding: Tensor) -> Tensor:
        miss, drift = self._miss(embedding), self._drift(embedding)
        return -(miss**2 + self.anchor**2 * drift**2 + TINY).sqrt()  # a root has no slope at 0

    def nearness(self, latents: Tensor) -> Tensor:
        """Minus the way to the target along the axis alone: [B, C, H, W] -> [B], differentiable."""
        return -self._miss(self.embed(latents)).abs()

    def sameness(self, latents: Tensor) -> Tensor:
        """Minus the distance to the start in all that is no part of the axis: as `nearness`."""
        return -self._drift(self.embed(latents))

    def _miss(self, embedding: Tensor) -> Tensor:
        if len(embedding) != len(self.start):
            raise ValueError(
                f"The slider has {len(self.start)} starts; got a batch of {len(embedding)} latents. It reads "
                "the batch that it started from, row by row."
            )
        return self.slider.position_of(embedding) - usable_for_backward(self.target).to(embedding)

    def _drift(self, embedding: Tensor) -> Tensor:
        start = usable_for_backward(self.start).to(embedding)
        off = self.slider.off_axis(embedding) - self.slider.off_axis(start)
        return ((off**2).sum(1) + TINY).sqrt() / self.slider.half


def _end(model: LatentCLIP, end: End, which: str, size_rule: Any) -> Tensor:
    """The embedding of one end, of length 1: [D]."""
    with torch.no_grad():
        if isinstance(end, Tensor):
            pictures = finite_pictures(end, model, f"The slider's group {which!r}:")
            found = model.encode_latents(pictures, size_rule=size_rule)
        else:
            found = model.encode_text(_texts(end, which))
        mean = found.float().mean(0)
        return (mean / mean.norm()).detach()


def _texts(end: str | Iterable[str], which: str) -> list[str]:
    try:
        return text_lines(end)
    except ValueError:
        raise ValueError(
            f"The text {which!r} of the slider is empty; expected what pictures at that end show, such as a "
            "small house for less and a large house for more."
        ) from None


def _title(end: End) -> str:
    if isinstance(end, Tensor):
        return f"{len(end)} latents"
    return shorten(text_lines(end)[0], 24)
