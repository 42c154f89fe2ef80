"""How true estimated shares are, and what choosing and steering do to batches that a caption leaves open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lclip import (
    ConceptReward,
    RaceSettings,
    ReNOSettings,
    RewardSum,
    TextReward,
    classify,
    guided_x0,
    race,
    reno,
)
from lclip.choosing.balance import balance_of, total_variation
from lclip.choosing.confusion import confusion
from lclip.choosing.shares import shares_of
from lclip.mini import World
from lclip.mini.oracle import describe, judge
from lclip.mini.scenes import COLOURS, GROUNDS, SHAPES, Content, caption
from lclip.rewards.per_item import in_raw_latents
from lclip.statistics import bootstrap, wilson

from .harness import Run, table
from .scenes import CHUNK, generate, in_chunks, noise_for, world_for_cpu

POOL, LABELLED, SUBSETS = 1024, 256, 40
SIZES = (32, 128, 512)
CHOOSE_FROM, STEER, ITERATIONS, STEPS, STRENGTH = 96, 24, 15, 20, 0.05
VALUES = {"colour": COLOURS, "shape": SHAPES, "ground": GROUNDS}


@dataclass(frozen=True)
class Open:
    """A caption that leaves one thing open."""

    what: str
    content: Content

    @property
    def text(self) -> str:
        return caption(self.content)

    @property
    def concepts(self) -> list[str]:
        """The caption with each value said."""
        return [caption(_said(self.content, self.what, value)) for value in VALUES[self.what]]

    def truth(self, picture: np.ndarray) -> int:
        """Which value the oracle sees, by place; -1 where it sees no object."""
        ground, seen = describe(picture)
        value = ground if self.what == "ground" else getattr(seen[0], self.what) if seen else None
        return VALUES[self.what].index(value) if value in VALUES[self.what] else -1


def _said(content: Content, what: str, value: str) -> Content:
    return replace(content, **({"ground": value} if what == "ground" else {f"{what}s": (value,)}))


CAPTIONS = (
    Open("colour", Content("single", ("star",), (None,), "white")),
    Open("colour", Content("single", ("ring",), (None,), "black", "large")),
    Open("shape", Content("single", (None,), ("red",), "white")),
    Open("shape", Content("single", (None,), ("blue",), "grey", "large")),
    Open("ground", Content("single", ("star",), ("red",))),
    Open("ground", Content("count", ("square",), ("blue",), count=2)),
)


def shares(run: Run) -> str:
    """Error of estimated shares by size, then distance to uniform and the rest of the caption."""
    world = world_for_cpu()
    asked = CAPTIONS[:: run.choose(1, 2)]
    pools = [run.part(f"pool {each.text}", lambda each=each: _pool(run, world, each)) for each in asked]
    steered = [run.part(f"steer {each.text}", lambda each=each: _steered(run, world, each)) for each in asked]
    return "\n\n".join(
        (_introduction(asked), _errors(run, asked, pools), _distances(run, asked, pools, steered))
    )


def _pool(run: Run, world: World, each: Open) -> dict[str, np.ndarray]:
    """Pictures of one caption: what the Latent-CLIP says of each, and what the oracle sees."""
    number = run.choose(POOL, 160)
    latents = generate(world, [each.text] * number, noise_for(number, 781))
    run.say(each.text)
    return {
        "chances": in_chunks(lambda z: classify(world.latent_clip, z, each.concepts), latents).numpy(),
        **_seen(world, each, latents),
    }


def _pictures(world: World, latents: Tensor) -> np.ndarray:
    return in_chunks(world.decode, latents, CHUNK).permute(0, 2, 3, 1).numpy()


def _seen(world: World, each: Open, latents: Tensor) -> dict[str, np.ndarray]:
    """By the oracle: the value of what is open, and whether all that the caption does say is right."""
    pictures = _pictures(world, latents)
    return {
        "truth": np.array([each.truth(picture) for picture in pictures]),
        "right": np.array([judge(picture, each.content).correct for picture in pictures]),
    }


def _introduction(asked: Sequence[Open]) -> str:
    texts = "; ".join(f"{each.text} ({each.what})" for each in asked)
    return (
        f"One-step pictures of captions that leave something open: {texts}. Concepts: the caption with each "
        "value said. Truth: what the oracle sees in the decoded picture; one in which it sees no object has "
        "none, and is left out. Distance: total variation, half the sum of the differences, in points."
    )


def _errors(run: Run, asked: Sequence[Open], pools: Sequence[dict[str, np.ndarray]]) -> str:
    """Error of hard, soft and corrected shares against the truth of the same items, and of the generator."""
    labelled = run.choose(LABELLED, 64)
    rows = []
    for what in VALUES:
        chosen = [(e, p) for e, p in zip(asked, pools, strict=True) if e.what == what]
        for size in SIZES if not run.tiny else (16, 32):
            found = np.concatenate([_subset_errors(e, p, size, labelled) for e, p in chosen])
            cells = [bootstrap(found[:, column]).text(100, 1) for column in range(4)]
            rows.append((what, size, *cells, f"{100 * found[:, 4].mean():.0f} %"))
    head = ("open", "items", "hard", "soft", "corrected", "hard, against the generator's", "in the interval")
    return (
        "**Error of estimated shares**: distance to the true shares of the same items, a mean over "
        f"{SUBSETS} draws for each caption from {run.choose(POOL, 160) - labelled} pictures. Corrected: by "
        f"the confusion of {labelled} other pictures with the oracle's labels. The generator's: the truth of "
        "the whole pool. In the interval: true shares of the pool that the Wilson interval of the hard share "
        "holds.\n\n" + table(head, rows)
    )


def _subset_errors(each: Open, pool: dict[str, np.ndarray], size: int, labelled: int) -> np.ndarray:
    """[draws, 5]: the errors of hard, soft, corrected; of hard against the pool; how many are covered."""
    known = pool["truth"] >= 0
    chances, truth = torch.from_numpy(pool["chances"][known]), pool["truth"][known]
    mixing = _mixing(each, chances[:labelled], truth[:labelled])
    chances, truth = chances[labelled:], truth[labelled:]
    whole, rng, rows = _shares_of(truth, each), np.random.default_rng(782), []
    for _ in range(SUBSETS):
        drawn = rng.choice(len(truth), min(size, len(truth)), replace=False)
        found = shares_of(chances[drawn], each.concepts, confusion=mixing)
        own, hard = _shares_of(truth[drawn], each), [interval.value for interval in found.hard]
        soft, corrected = [interval.value for interval in found.soft], found.corrected or hard
        within = [i.low <= share <= i.high for i, share in zip(found.hard, whole, strict=True)]
        errors = [total_variation(shares, own) for shares in (hard, soft, corrected)]
        rows.append([*errors, total_variation(hard, whole), np.mean(within)])
    return np.array(rows)


def _mixing(each: Open, chances: Tensor, truth: np.ndarray) -> Tensor | None:
    """The confusion by labelled examples; where a value is never drawn, it counts as never mistaken."""
    places = len(each.concepts)
    rows = torch.cat([chances, torch.eye(places, dtype=chances.dtype)])
    return confusion(rows, [*truth.tolist(), *range(places)])


def _shares_of(truth: np.ndarray, each: Open) -> list[float]:
    return [float((truth == place).mean()) for place in range(len(each.concepts))]


def _distances(
    run: Run,
    asked: Sequence[Open],
    pools: Sequence[dict[str, np.ndarray]],
    steered: Sequence[dict[str, np.ndarray]],
) -> str:
    """Before and after choosing and steering, by what the oracle sees."""
    rows = []
    for each, pool, found in zip(asked, pools, steered, strict=True):
        rows.append((each.text, *_chosen(run, each, pool)))
        plain = {1: found["plain 1"], STEPS: found[f"plain {STEPS}"]}
        for name, steps in (("ReNO", 1), ("race", STEPS), ("guidance", STEPS)):
            truth, right = found[name]
            base, base_right = plain[steps]
            share = wilson(int((truth == found["wanted" + f" {steps}"]).sum()), len(truth)).percent()
            kept_all = [wilson(int(x.sum()), len(x)).percent() for x in (base_right, right)]
            distances = [_distance(each, x) for x in (base, truth)]
            rows.append((each.text, f"{name}, {len(truth)} items", *distances, share, *kept_all))
    head = (
        "caption",
        "how",
        "distance before",
        "after",
        "shows what was wanted",
        "rest right before",
        "after",
    )
    steps = f"{ITERATIONS} iterations; race and guidance on {STEPS} steps, a race of 8, guidance {STRENGTH}"
    return (
        "**Distance to uniform, before and after**, by the oracle. Choosing: the largest subset within 0.02 "
        "by the Latent-CLIP, a mean over batches; where there is none, those that a balanced batch would "
        "keep. Steering: every item its own concept (`ConceptReward`, weight 1, plus a text reward of the "
        f"caption), by ReNO with {steps}. Rest right: the oracle sees all that the caption does say.\n\n"
        + table(head, rows)
    )


def _chosen(run: Run, each: Open, pool: dict[str, np.ndarray]) -> tuple[str, ...]:
    """Of batches how many were chosen, the distance before and after, and the share whose rest is right."""
    number, rows, rights = run.choose(CHOOSE_FROM, 32), [], []
    for first in range(0, len(pool["truth"]) - number + 1, number):
        part = slice(first, first + number)
        kept = list(balance_of(torch.from_numpy(pool["chances"][part]), each.concepts).chosen)
        truth, right = pool["truth"][part], pool["right"][part]
        rows.append([_tv(each, truth), _tv(each, truth[kept]), len(kept)])
        rights.append((right, right[kept]))
    values = np.array(rows)
    distances = (bootstrap(values[:, column]).text(100, 1) for column in (0, 1))
    shares = (np.concatenate(each) for each in zip(*rights, strict=True))
    told = (wilson(int(each.sum()), len(each)).percent() for each in shares)
    return f"choosing, {values[:, 2].mean():.0f} of {number}", *distances, "", *told


def _tv(each: Open, truth: np.ndarray) -> float:
    counts = [int((truth == place).sum()) for place in range(len(each.concepts))]
    return total_variation(counts, [1 / len(counts)] * len(counts)) if sum(counts) else float("nan")


def _distance(each: Open, truth: np.ndarray) -> str:
    return f"{100 * _tv(each, truth):.1f}"


def _steered(run: Run, world: World, each: Open) -> dict[str, np.ndarray]:
    """What the oracle sees in plain batches and in steered ones: [2, items], value and whether the rest is
    right."""
    number, noise = run.choose(STEER, 6), noise_for(run.choose(STEER, 6), 783)
    found: dict[str, np.ndarray] = {}
    stage = _Stage(world, each, number, run.choose(STEPS, 4))
    for steps in (1, STEPS):
        plain = stage.plain(noise, steps)
        found[f"plain {steps}"] = stage.seen(plain)
        chances = classify(world.latent_clip, plain, each.concepts)
        wanted = balance_of(chances, each.concepts).wanted
        found[f"wanted {steps}"] = np.array(wanted)
        ways = {"ReNO": stage.reno} if steps == 1 else {"race": stage.race, "guidance": stage.guidance}
        for name, way in ways.items():
            found[name] = stage.seen(way(noise, stage.reward(wanted)))
            run.say(f"{each.text}: {name}")
    return found


class _Stage:
    """One caption and the generator, plain or steered."""

    def __init__(self, world: World, each: Open, number: int, steps: int) -> None:
        self.world, self.each, self.number, self.steps = world, each, number, steps
        self.to_raw: Callable[[Tensor], Tensor] = world.latent_format.to_raw

    def reward(self, wanted: Sequence[int]) -> RewardSum:
        clip = self.world.latent_clip
        return RewardSum([TextReward(clip, self.each.text), ConceptReward(clip, self.each.concepts, wanted)])

    def seen(self, latents: Tensor) -> np.ndarray:
        found = _seen(self.world, self.each, latents)
        return np.stack([found["truth"], found["right"]])

    def plain(self, noise: Tensor, steps: int) -> Tensor:
        with torch.no_grad():
            return self.world.generate([self.each.text], noise, 1 if steps == 1 else self.steps)

    def reno(self, noise: Tensor, reward: RewardSum) -> Tensor:
        generate_one = self.world.generator([self.each.text] * self.number)
        return reno(generate_one, noise, reward, ReNOSettings(iterations=ITERATIONS)).best_latents

    def guidance(self, noise: Tensor, reward: RewardSum) -> Tensor:
        with torch.no_grad():
            return self.world.generate(
                [self.each.text], noise, self.steps, lambda x0: guided_x0(x0, reward, STRENGTH, self.to_raw)
            )

    def race(self, noise: Tensor, reward: RewardSum) -> Tensor:
        context = self.world.context([self.each.text], 1)

        def denoise(x: Tensor, sigma: Tensor, items: Tensor) -> Tensor:
            return x - sigma * self.world.denoiser(x, sigma.expand(len(x)), context.expand(len(x), -1, -1))

        judged, sigmas = in_raw_latents(reward, self.to_raw), torch.linspace(1, 0, self.steps + 1)
        found = race(denoise, noise, judged, sigmas, RaceSettings(8, seed=784))
        return self.to_raw(found.latents)
