"""Whether a slider moves what it names and keeps the rest: series on the mini world, judged by the oracle."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lclip import SlideResult, SliderReward, SlideSettings, similarity, slide, slide_guided
from lclip.choosing.slider import Change
from lclip.mini import World
from lclip.mini.drawing import RGB, place, sample_scenes
from lclip.mini.oracle import SIZE_THRESHOLD, describe
from lclip.mini.scenes import Content, caption
from lclip.mini.world import generate_from
from lclip.statistics import bootstrap, wilson

from .harness import Run, table
from .scenes import encode_scenes, in_chunks, noise_for, world_for_cpu

STEPS = 20
SERIES = 25  # of each attribute, by each method
SETTINGS = SlideSettings()
COLOUR_PAIRS = (
    ("red", "green"),
    ("green", "blue"),
    ("blue", "yellow"),
    ("yellow", "purple"),
    ("purple", "red"),
)
ENDS = {"size": (("small", "large"),), "colour": COLOUR_PAIRS, "count": ((2, 3),)}
KEPT = ("ground", "shape", "colour", "size", "count")
EXAMPLES = 8  # drawings that show an end, in the place of its text
BY_EXAMPLES = ("size", "colour")


@dataclass(frozen=True)
class Axis:
    """One pair of ends, and the prompts that leave open which."""

    attribute: str
    less: str | int
    more: str | int

    def texts(self, content: Content) -> tuple[str, str]:
        """What the slider is told: the caption with either end."""
        return caption(self.content(content, self.less)), caption(self.content(content, self.more))

    def examples(self, world: World, content: Content) -> tuple[Tensor, Tensor]:
        """What it is shown in their place: drawings of either caption, at places of their own."""
        draws = np.random.default_rng(EXAMPLES)
        ends = (self.content(content, end) for end in (self.less, self.more))
        less, more = (encode_scenes(world, [place(end, draws) for _ in range(EXAMPLES)]) for end in ends)
        return less, more

    def content(self, content: Content, end: str | int) -> Content:
        if self.attribute == "colour":
            return replace(content, colours=(str(end),))
        if self.attribute == "count":
            return replace(content, count=int(end))
        return replace(content, size=str(end))

    def context(self, world: World, contents: list[Content]) -> Tensor:
        """The conditioning, which leaves open what the slider moves.

        Without its colour a caption shows any of five, and none leaves the count open: there it is the mean
        of both ends' captions, as the host's ConditioningAverage makes it.
        """
        if self.attribute == "size":
            return world.context([caption(replace(each, size=None)) for each in contents], len(contents))
        ends = [[caption(self.content(each, end)) for each in contents] for end in (self.less, self.more)]
        less, more = (world.context(captions, len(contents)) for captions in ends)
        return (less + more) / 2

    def truth(self, picture: np.ndarray) -> float:
        """How much of it a picture has, without any CLIP."""
        _, seen = describe(picture)
        if self.attribute == "count":
            return float(len(seen))
        if self.attribute == "size":
            return max((item.radius for item in seen), default=0.0)
        return between(picture, str(self.less), str(self.more))

    def rest(self, picture: np.ndarray) -> dict[str, object]:
        """All else that the oracle reads of a picture."""
        ground, seen = describe(picture)
        kinds = {
            "ground": ground,
            "shape": {item.shape for item in seen},
            "colour": {item.colour for item in seen},
            "size": {item.radius > SIZE_THRESHOLD for item in seen},
            "count": len(seen),
        }
        # Three objects must be smaller than two: the world draws them so.
        own = {"count": ("count", "size")}.get(self.attribute, (self.attribute,))
        return {name: value for name, value in kinds.items() if name not in own}


def between(picture: np.ndarray, less: str, more: str) -> float:
    """How far the object's mean colour is from one colour of the palette (0) to another (1)."""
    edge = np.concatenate([picture[:2].reshape(-1, 3), picture[-2:].reshape(-1, 3)])
    distance = np.linalg.norm(picture - np.median(edge, axis=0), axis=-1)
    inside = picture[distance > 0.5 * np.quantile(distance, 0.98)].mean(0)
    ends = [np.array(RGB[name]) / 255 for name in (less, more)]
    way = ends[1] - ends[0]
    return float((inside - ends[0]) @ way / (way @ way))


def sliders(run: Run, split: str = "test", seed: int = 781, settings: SlideSettings = SETTINGS) -> str:
    """Order, and what else changed, of series by noise and by guidance."""
    world = world_for_cpu()
    found = {}
    for steps in (1, STEPS):
        for shown, attributes in ((False, ENDS), (True, BY_EXAMPLES)):
            for attribute in attributes:
                name = _title(attribute, steps, shown)
                series = Series(run, world, attribute, run.choose(steps, min(3, steps)), shown, settings)
                found[name] = run.part(name, lambda series=series: series.made(split, seed))
                run.say(f"{name}: {_row(name, found[name])}")
    rows = [_row(name, values) for name, values in found.items()]
    return _written(rows, settings)


def _title(attribute: str, steps: int, shown: bool) -> str:
    method = "noise, 1 step" if steps == 1 else f"guidance, {steps} steps"
    return f"{attribute}{' by examples' * shown}: {method}"


@dataclass(frozen=True)
class Series:
    """Series of one attribute by one method. steps: 1 moves the noise, more guide."""

    run: Run
    world: World
    attribute: str
    steps: int
    shown: bool
    settings: SlideSettings

    def made(self, split: str, seed: int) -> dict[str, np.ndarray]:
        """One row a series: rank correlation, whether all else stayed, and by name; positions and truths."""
        rows: list[dict[str, np.ndarray]] = []
        pairs = ENDS[self.attribute]
        each = max(2, self.run.choose(SERIES, 2 * len(pairs)) // len(pairs))
        for number, (less, more) in enumerate(pairs):
            axis = Axis(self.attribute, less, more)
            contents, noise = _starts(self.world, axis, each, self.steps, split, seed + number)
            for content, own in zip(contents, noise.split(1), strict=True):
                ends = axis.examples(self.world, content) if self.shown else axis.texts(content)
                slider = SliderReward(self.world.latent_clip, *ends)
                context = axis.context(self.world, [content])
                result = _slid(self.world, slider, context, own, self.steps, self.settings)
                rows.append(_judged(self.world, axis, result, axis.texts(content)[1]))
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _starts(
    world: World, axis: Axis, number: int, steps: int, split: str, seed: int
) -> tuple[list[Content], Tensor]:
    """Captions with noises whose start shows what the caption says, all but what the slider moves."""
    kind = "count" if axis.attribute == "count" else "single"
    drawn = [s.content for s in sample_scenes(100 * number, seed, split=split) if s.content.kind == kind]
    drawn, noise = drawn[: 16 * number], noise_for(16 * number, seed)[: len(drawn)]
    with torch.no_grad():
        starts = generate_from(world.denoiser, axis.context(world, drawn), noise, steps)
        pictures = _pictures(world, world.latent_format.to_raw(starts))
    good = [
        n for n, (said, shown) in enumerate(zip(drawn, pictures, strict=True)) if _shows(axis, said, shown)
    ]
    good = good[:number]
    if len(good) < number:
        raise ValueError(f"only {len(good)} of {number} starts show their caption; draw more")
    return [drawn[index] for index in good], noise[good]


def _shows(axis: Axis, said: Content, picture: np.ndarray) -> bool:
    rest = axis.rest(picture)
    wanted = {
        "ground": said.ground,
        "shape": {said.shapes[0]},
        "colour": {said.colours[0]},
        "size": rest.get("size") if said.size is None else {said.size == "large"},
        "count": said.count,
    }
    counted = axis.attribute != "count" or len(describe(picture)[1]) in (2, 3)
    return counted and all(value == wanted[name] for name, value in rest.items())


def _slid(
    world: World, slider: SliderReward, context: Tensor, noise: Tensor, steps: int, settings: SlideSettings
) -> SlideResult:
    to_raw = world.latent_format.to_raw
    if steps == 1:
        return slide(lambda x: to_raw(generate_from(world.denoiser, context, x, 1)), noise, slider, settings)

    def sampled(change: Change) -> Tensor:
        levels = iter(range(steps, 0, -1))

        def scaled(x0: Tensor) -> Tensor:
            return x0 + world.scale_factor * (change(to_raw(x0), next(levels)) - to_raw(x0))

        return to_raw(generate_from(world.denoiser, context, noise, steps, scaled))

    return slide_guided(sampled, slider, settings)


def _judged(world: World, axis: Axis, result: SlideResult, more: str) -> dict[str, np.ndarray]:
    pictures, (start,) = _pictures(world, result.latents), _pictures(world, result.start_latents)
    truth, first = [axis.truth(picture) for picture in pictures], axis.rest(start)
    rest = [axis.rest(picture) for picture in pictures]
    same = [float(all(each.get(name) == first.get(name) for each in rest)) for name in KEPT]
    positions = (result.positions - result.start)[:, 0].numpy()
    scores = similarity(world.latent_clip, torch.cat([result.start_latents, result.latents[-1:]]), [more])
    return {
        "rank": np.array(spearman(positions, truth)),
        "kept": np.array(min(same)),
        "same": np.array(same),
        "positions": positions,
        "truth": np.array(truth),
        "miss": (result.positions - result.targets).abs()[:, 0].numpy(),
        "gain": (scores[1] - scores[0]).numpy(),
        "moved": np.array(np.abs(pictures - start).mean()),
        "rest": result.kept[:, 0].numpy(),
    }


def _pictures(world: World, latents: Tensor) -> np.ndarray:
    return in_chunks(world.decode, latents).permute(0, 2, 3, 1).numpy()


def spearman(first: np.ndarray, second: np.ndarray | list[float]) -> float:
    """Spearman's rank correlation, ties by their mean rank; 0 where either does not change."""
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in (first, second)]
    if min(each.std() for each in ranks) == 0:
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


HEADER = (
    "slider and method",
    "rank correlation",
    "its median",
    "never falls",
    "from first to last",
    "all else kept",
    "least kept",
    "off target",
    "change of score",
    "pixels moved",
    "rest",
)


def _row(name: str, found: dict[str, np.ndarray]) -> tuple[str, ...]:
    truth = found["truth"]
    ordered = float((np.diff(truth, axis=1) >= -1e-6).all(1).sum())
    worst = min(zip(found["same"].mean(0), KEPT, strict=True))
    return (
        f"{name}, n = {len(truth)}",
        bootstrap(found["rank"]).text(digits=3),
        f"{np.median(found['rank']):.2f}",
        wilson(ordered, len(truth)).percent(),
        f"{truth[:, 0].mean():.2f} to {truth[:, -1].mean():.2f}",
        wilson(float(found["kept"].sum()), len(truth)).percent(),
        f"{worst[1]}, {100 * worst[0]:.0f} %",
        f"{found['miss'].mean():.3f}",
        bootstrap(found["gain"][:, 0]).text(100, 1),
        bootstrap(found["moved"]).text(digits=3),
        f"{found['rest'].mean():.3f}",
    )


def _written(rows: list[tuple[str, ...]], settings: SlideSettings) -> str:
    return (
        f"Series of {settings.positions} pictures from {settings.low:g} to {settings.high:g} around "
        "the start, test captions, starts that show their caption. The slider's ends are the caption "
        "with either word. For size the prompt leaves that word out; for colour and count it is the mean of "
        "both ends' conditionings, so that the start is one of the two or between. Spearman's rank "
        "correlation of the measured position with the truth: size is the radius in pixels that the oracle "
        "measures, colour where the object's mean colour is between the two, count the number of objects. A "
        "count has two or three values, so that ties hold its correlation to 0.87 even where the order is "
        "right. All else kept: the oracle reads ground, shape, colour, size and number, but for what is "
        "moved, in every picture of the series as in its start. By examples: an end is shown by "
        f"{EXAMPLES} drawings in the place of its text. What Concept Sliders (arXiv 2311.12092) report of "
        "theirs: the change of the CLIP score, here the cosine of the last picture with the text that says "
        "more, less the start's, in points; and LPIPS to the start, in the place of which stand the mean "
        "difference of pixels in 0 to 1 over the series, and the rest, the cosine to the start in all that "
        "is no part of the axis. SliderSpace (arXiv 2502.01639) finds its axes by itself and is measured by "
        "how varied and how near to other sets its pictures are (FID), which one axis that the user names "
        "does not have. Their figures are of Stable Diffusion's and FLUX's pictures with other "
        "judges.\n\n" + table(HEADER, rows)
    )
