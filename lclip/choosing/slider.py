"""A slider: one seed gives a series of pictures along an axis, while the rest of the picture stays.

Every position has a place that it should come to: where the start is, moved along the axis (`SliderReward`)
and nowhere else. The distance to it is known to end at 0, so that Polyak's step (1987) tells how far to go:
the distance by its slope. Models of few steps are moved by their noise, as ReNO does, each position from its
neighbour's; models of many steps by guidance of their predicted x0, all from the same noise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..latents.items import finite_items, item_norm, per_item
from ..reno.render import GradientRenderer, check_noise, render
from ..reno.uphill import Uphill
from ..rewards.rewards import RewardSum, described
from ..rewards.slider import AxisPointReward, SliderReward
from .slide_types import SlideResult, SlideSettings, SlideStep

logger = logging.getLogger("latent-clip")

Generate = Callable[[Tensor], Tensor]
"""noise [B, ...] -> clean raw latents [B, C, H, W]"""
Change = Callable[[Tensor, float], Tensor]
"""(predicted x0 [B, C, H, W] as raw latents, its noise level) -> the x0 that a sampler goes on with"""
GuidedRender = Callable[[Change], Tensor]
"""a whole sampling whose every predicted x0 goes through a change -> clean raw latents [B, C, H, W]"""
GUIDE_INSTEAD = "Guide it instead (`GuidedSlide`), which needs no gradient of the model"


class SlideRun:
    """A series as an iterator of `SlideStep`s, one a render; subclasses say how a position is come to.

    To cancel, stop iterating: `result()` has the start in the place of what was not reached.
    """

    def __init__(self, slider: SliderReward, settings: SlideSettings | None = None) -> None:
        self.slider, self.settings = slider, settings or SlideSettings()
        self.latents: dict[int, Tensor] = {}
        self.noise: dict[int, Tensor] = {}
        self.guided: int | None = None
        self._steps = self._all()

    def __iter__(self) -> Iterator[SlideStep]:
        return self

    def __next__(self) -> SlideStep:
        step = next(self._steps)
        return replace(step, latents=step.latents.clone())  # whoever watches may do with them as he likes

    def _start(self) -> Tensor:
        raise NotImplementedError

    def _come_to(self, index: int, neighbour: int, point: AxisPointReward) -> Iterator[SlideStep]:
        raise NotImplementedError

    def _all(self) -> Iterator[SlideStep]:
        with torch.no_grad():
            start = self._start()
            if not isinstance(start, Tensor):
                raise ValueError(
                    f"The slider's render gave {described(start)}; expected latents [B, C, H, W]."
                )
            self.latents[-1] = start.clone()
            self.embedding = self.slider.embed(self.latents[-1])
            self.position = self.slider.position_of(self.embedding)
        yield SlideStep(-1, self.latents[-1])
        targets = self.settings.targets
        for index in self.settings.order:
            if targets[index] == 0:
                self.latents[index] = self.latents[-1]
                continue
            aim = self.position + targets[index]
            point = AxisPointReward(self.slider, self.embedding, aim, self.settings.anchor)
            yield from self._come_to(index, self._neighbour(index), point)

    def _neighbour(self, index: int) -> int:
        """The position next to it on the way from the start, or the start itself."""
        inner = index - 1 if self.settings.targets[index] > 0 else index + 1
        return inner if inner in self.latents else -1

    def result(self) -> SlideResult:
        """The series so far. ValueError before the first step."""
        if -1 not in self.latents:
            raise ValueError("The slider has not rendered anything yet; take at least one step before.")
        targets = self.settings.targets
        found = [self.latents.get(index, self.latents[-1]) for index in range(len(targets))]
        noise = [self.noise.get(index, self.noise.get(-1)) for index in range(len(targets))]
        with torch.no_grad():
            embeddings = [self.slider.embed(each) for each in found]
            positions = torch.stack([self.slider.position_of(each) for each in embeddings]).float().cpu()
            kept = torch.stack([self._kept(each) for each in embeddings]).float().cpu()
        start = self.position.float().cpu()
        result = SlideResult(
            latents=torch.cat(found),
            noise=None if noise[0] is None else torch.cat([each for each in noise if each is not None]),
            positions=positions,
            targets=start + torch.tensor(targets, dtype=torch.float32)[:, None],
            start=start,
            start_latents=self.latents[-1].clone(),
            kept=kept,
            guided=self.guided,
        )
        for text in result.notes:
            logger.warning("Slider: %s", text)
        return result

    def _kept(self, embedding: Tensor) -> Tensor:
        here, there = map(self.slider.off_axis, (embedding, self.embedding))
        return torch.cosine_similarity(here, there)


class NoiseSlide(SlideRun):
    """A series by noise: for models of few steps, which a gradient passes.

    generate: noise -> clean raw latents, the same for the same noise. noise: [B, ...] of the start.
    ValueError for noise or generators that cannot be searched.
    """

    def __init__(
        self,
        generate: Generate,
        noise: Tensor,
        slider: SliderReward,
        settings: SlideSettings | None = None,
    ) -> None:
        super().__init__(slider, settings)
        self.generate = generate
        self.noise[-1] = check_noise(noise, whose="The slider's")
        self.norm = item_norm(self.noise[-1])

    def _start(self) -> Tensor:
        return render(self.generate, self.noise[-1])

    def _come_to(self, index: int, neighbour: int, point: AxisPointReward) -> Iterator[SlideStep]:
        noise = self.noise.get(neighbour, self.noise[-1])
        reward = RewardSum({"slider": point})
        renderer = GradientRenderer(self.generate, reward, len(noise), GUIDE_INSTEAD)
        everyone = torch.ones(len(noise), dtype=torch.bool)
        best = torch.full((len(noise),), -torch.inf)
        self.noise[index], self.latents[index] = noise, self.latents[neighbour]
        for iteration in range(self.settings.iterations):
            gradient = None
            if iteration < self.settings.iterations - 1:
                latents, parts, gradient = renderer(noise, everyone)
            else:
                with torch.no_grad():
                    latents = render(self.generate, noise)
                    parts = reward.parts(latents)
            value = parts["slider"].detach().cpu().float()
            better = torch.isfinite(value) & (value > best)
            best = torch.where(better, value, best)
            self._keep(index, better, noise, latents)
            yield SlideStep(index, self.latents[index])
            if gradient is not None:
                moved = noise + polyak_move(noise, value, gradient, self.settings.strength)
                noise = moved * per_item(self.norm / item_norm(moved), moved)

    def _keep(self, index: int, better: Tensor, noise: Tensor, latents: Tensor) -> None:
        for kept, new in ((self.noise, noise), (self.latents, latents)):
            kept[index] = torch.where(per_item(better.to(new.device), new), new, kept[index])


class GuidedSlide(SlideRun):
    """A series by guidance: for models of many steps. No gradient passes the model itself.

    A predicted x0 is blurred while there is noise, so it is held beside what the start's was at that noise
    level. render: a whole sampling from the same noise each time; see `GuidedRender`.
    """

    def __init__(
        self,
        render: GuidedRender,
        slider: SliderReward,
        settings: SlideSettings | None = None,
    ) -> None:
        super().__init__(slider, settings)
        self.render = render
        self.trace: dict[float, Tensor] = {}

    def _start(self) -> Tensor:
        start = self.render(self._watched)
        if isinstance(start, Tensor) and not self.trace:
            raise ValueError(
                "The sampler showed no predicted x0 on the way, so there was nothing to guide. Take one that "
                "reports every step, such as euler, or move the noise instead (`NoiseSlide`)."
            )
        return start

    def _watched(self, x0: Tensor, level: float) -> Tensor:
        with torch.no_grad():
            self.trace[float(level)] = self.slider.embed(x0)
        return x0

    def _come_to(self, index: int, neighbour: int, point: AxisPointReward) -> Iterator[SlideStep]:
        with torch.no_grad():
            self.latents[index] = self.render(partial(self._moved, point)).clone()
        self.guided = self.guided or 0
        yield SlideStep(index, self.latents[index])

    def _moved(self, point: AxisPointReward, x0: Tensor, level: float) -> Tensor:
        nearest = min(self.trace, key=lambda known: abs(known - float(level)))
        left = sorted(self.trace).index(nearest) / len(self.trace)
        if left < 1 - self.settings.end - 1e-9:
            return x0
        self.guided = 1 + (self.guided or 0)
        return slide_x0(x0, point.beside(self.trace[nearest]), self.settings.strength)


def slide(
    generate: Generate,
    noise: Tensor,
    slider: SliderReward,
    settings: SlideSettings | None = None,
) -> SlideResult:
    """A series of pictures along an axis, by the noise of a generator of few steps; see `NoiseSlide`."""
    return _finished(NoiseSlide(generate, noise, slider, settings))


def slide_guided(
    render: GuidedRender,
    slider: SliderReward,
    settings: SlideSettings | None = None,
) -> SlideResult:
    """A series of pictures along an axis, by guidance of a sampler of many steps; see `GuidedSlide`."""
    return _finished(GuidedSlide(render, slider, settings))


def _finished(run: SlideRun) -> SlideResult:
    for _ in run:
        pass
    return run.result()


def slide_x0(x0: Tensor, point: AxisPointReward, strength: float) -> Tensor:
    """Predicted clean latents, moved to a place on an axis as far as the slopes say.

    x0: [B, C, H, W], raw latents. strength: the longest move relative to x0. The anchor's own move leaves out
    what would lead along the axis, so that it holds the rest and not the slider. An item whose gradient is
    zero or not finite stays as it is.
    """
    z = x0.detach().to(torch.promote_types(x0.dtype, torch.float32))
    toward = _polyak_uphill(point.nearness, z, strength)
    move = toward
    if point.anchor:
        back = _polyak_uphill(point.sameness, z, strength)
        along = (back * toward).flatten(1).sum(1) / item_norm(toward).clamp_min(1e-12) ** 2
        move = toward + point.anchor * (back - per_item(along, z) * toward)
    return x0 + move.to(x0.dtype)


def _polyak_uphill(reward: Callable[[Tensor], Tensor], z: Tensor, strength: float) -> Tensor:
    slope = Uphill()(reward, z)
    gradient = slope.unscaled()
    if gradient is None:
        raise ValueError("The slider does not depend on the latents, so it cannot guide them.")
    return polyak_move(z, slope.value, gradient, strength)


def polyak_move(x: Tensor, value: Tensor, gradient: Tensor, strength: float) -> Tensor:
    """The step uphill that would bring a reward to 0, its highest value, if its slope stayed: -r g / |g|^2.

    value: [B], 0 or less; strength: its greatest length relative to x.
    """
    length = item_norm(gradient)
    value = value.to(length)
    usable = finite_items(gradient) & torch.isfinite(value) & (length > 0)
    step = torch.minimum(-value / length, strength * item_norm(x))
    scale = torch.where(usable, step / length, torch.zeros_like(length))
    return per_item(scale, x) * torch.where(per_item(usable, x), gradient, torch.zeros_like(gradient))
