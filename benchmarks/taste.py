"""Own taste from few examples on the mini world: hidden rules say what is liked, the oracle who was right."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from lclip import TasteReward, save_taste, train_taste
from lclip.mini import World
from lclip.mini.drawing import place, sample_scenes
from lclip.mini.oracle import describe
from lclip.mini.scenes import Content, Scene, random_content
from lclip.statistics import bootstrap

from .harness import Run, table
from .scenes import encode_scenes, generate, in_chunks, noise_for, world_for_cpu

NUMBERS = (10, 20, 50, 200)  # of examples a side
BATCH, BEST = 8, 2


@dataclass(frozen=True)
class View:
    """What a rule looks at: the ground, and shape and colour of each object."""

    ground: str | None
    objects: tuple[tuple[str | None, str | None], ...]


Rule = Callable[[View], bool]

RULES: dict[str, Rule] = {
    "something red on white": lambda v: v.ground == "white" and any(c == "red" for _, c in v.objects),
    "a star": lambda v: any(shape == "star" for shape, _ in v.objects),
    "two things or more": lambda v: len(v.objects) > 1,
    "blue or purple, not on black": lambda v: (
        v.ground != "black" and any(c in ("blue", "purple") for _, c in v.objects)
    ),
}


def of_content(content: Content) -> View:
    """What a drawn scene shows."""
    pairs = tuple(zip(content.shapes, content.colours, strict=True))
    return View(content.ground, pairs * content.count if content.kind == "count" else pairs)


def of_picture(picture: np.ndarray) -> View:
    """What the oracle sees."""
    ground, seen = describe(picture)
    return View(ground, tuple((item.shape, item.colour) for item in seen))


@dataclass
class Made:
    """Embeddings of generated latents, BATCH neighbours a batch, and what the oracle sees in each picture."""

    embeddings: Tensor
    views: list[View]


def taste(run: Run) -> str:
    """Each rule, learnt several times from examples of its own."""
    world = world_for_cpu()
    made = _generated(world, run.choose(200, 3))
    repeats, held_out = run.choose(10, 2), run.choose(1000, 40)
    numbers = NUMBERS[: run.choose(len(NUMBERS), 2)]
    rows, found = [], {}
    for position, (name, rule) in enumerate(RULES.items()):
        run.say(name)
        seed = 8500 + 100 * position
        found[name] = run.part(
            f"rule {position}", lambda r=rule, s=seed: _learnt(world, r, s, made, numbers, repeats, held_out)
        )
        rows += _rows(name, found[name], numbers)
    size = _file_size(world)
    return (
        "A hidden rule says which latents are liked: so many a side, encoded from drawn scenes. Each rule is "
        f"learnt {repeats} times from examples of its own; intervals are over these. Leave-one-out is what "
        f"the library reports. Held-out: the share on the right side of 0, of {held_out} other latents, half "
        "of them liked; chance is 50 %. All scenes have captions that the Latent-CLIP never saw. "
        f"Best {BEST} of {BATCH}: of {len(made.views)} latents, generated in one step from test "
        f"captions, {BATCH} at a time, the {BEST} with the highest reward; the share of them in whose "
        f"picture the oracle sees the rule obeyed, with the share of all ({BEST} at random), and the largest "
        f"that there can be, as some batches hold fewer than {BEST}.\n\n"
        + table(
            ("liked", "a side", "leave-one-out", "held-out", f"best {BEST} of {BATCH}", "random", "at most"),
            rows,
        )
        + f"\n\nOver all rules, {repeats * len(RULES)} tastes each. Promised: how often the 95 % interval of "
        "the library's leave-one-out figure holds the accuracy on the held-out latents.\n\n"
        + table(
            ("a side", "leave-one-out minus held-out, points", "promised", "training"),
            [_over_rules(list(found.values()), index, n) for index, n in enumerate(numbers)],
        )
        + f"\n\nTraining embeds the examples and solves for the head. A taste is a file of {size:,} bytes."
    )


def _generated(world: World, batches: int) -> Made:
    scenes = sample_scenes(batches * BATCH, 851, split="test")
    latents = generate(world, [scene.caption for scene in scenes], noise_for(len(scenes), 852))
    pictures = in_chunks(world.decode, latents).permute(0, 2, 3, 1).numpy()
    embeddings = in_chunks(world.latent_clip.encode_latents, latents)
    return Made(embeddings, [of_picture(picture) for picture in pictures])


def _sides(world: World, rule: Rule, number: int, seed: int) -> tuple[Tensor, Tensor]:
    """Latents of so many test scenes that obey a rule, and of as many that do not."""
    rng = np.random.default_rng(seed)
    scenes: dict[bool, list[Scene]] = {True: [], False: []}
    while min(map(len, scenes.values())) < number:
        content = random_content(rng, "test")
        side = scenes[rule(of_content(content))]
        if len(side) < number:
            side.append(place(content, rng))
    return encode_scenes(world, scenes[True]), encode_scenes(world, scenes[False])


def _learnt(
    world: World, rule: Rule, seed: int, made: Made, numbers: tuple[int, ...], repeats: int, held_out: int
) -> dict[str, np.ndarray]:
    """Figures [repeats, numbers] of one rule; the smaller sets of examples are part of the larger ones."""
    embed = world.latent_clip.encode_latents
    judged = [in_chunks(embed, side) for side in _sides(world, rule, held_out // 2, seed)]
    obeyed = np.array([rule(view) for view in made.views]).reshape(-1, BATCH)
    columns = ("left out", "low", "high", "held-out", "best", "seconds")
    figures = np.zeros((len(columns), repeats, len(numbers)))
    for repeat in range(repeats):
        liked, disliked = _sides(world, rule, max(numbers), seed + 1 + repeat)
        for index, number in enumerate(numbers):
            start = time.perf_counter()
            learnt = train_taste(world.latent_clip, liked[:number], disliked[:number])
            seconds = time.perf_counter() - start
            assert learnt.figures is not None
            score = TasteReward(world.latent_clip, learnt).score_embedding
            right = [score(side).numpy() > 0 for side in judged]
            figures[:, repeat, index] = (
                *learnt.figures.interval().figures,
                (right[0].mean() + (~right[1]).mean()) / 2,
                _best(score(made.embeddings).numpy(), obeyed),
                seconds,
            )
    chance = {"random": obeyed.mean(), "most": np.minimum(obeyed.sum(1), BEST).mean() / BEST}
    return {
        **dict(zip(columns, figures, strict=True)),
        **{key: np.array(value) for key, value in chance.items()},
    }


def _best(rewards: np.ndarray, obeyed: np.ndarray) -> float:
    """Share that obeys of the BEST of each batch."""
    order = rewards.reshape(obeyed.shape).argsort(1)[:, -BEST:]
    return float(np.take_along_axis(obeyed, order, 1).mean())


def _rows(name: str, found: dict[str, np.ndarray], numbers: tuple[int, ...]) -> list[tuple[object, ...]]:
    rows = []
    for index, number in enumerate(numbers):
        cells = [bootstrap(found[key][:, index]).percent() for key in ("left out", "held-out", "best")]
        ends = [f"{100 * float(found[key]):.1f} %" for key in ("random", "most")]
        rows.append((name, number, *cells, *ends))
    return rows


def _over_rules(found: list[dict[str, np.ndarray]], index: int, number: int) -> tuple[object, ...]:
    low, high, left_out, held_out, seconds = (
        np.concatenate([rule[key][:, index] for rule in found])
        for key in ("low", "high", "left out", "held-out", "seconds")
    )
    rules = np.repeat(np.arange(len(found)), len(found[0]["low"]))  # tastes of one rule share their test
    inside = ((low <= held_out) & (held_out <= high)).astype(float)
    gap = bootstrap(left_out - held_out, rules).text(100, 1)
    kept = bootstrap(inside, rules).percent()
    return number, gap, kept, bootstrap(seconds).text(1000, 0, " ms")


def _file_size(world: World) -> int:
    liked, disliked = _sides(world, RULES["a star"], 10, 8499)
    with tempfile.TemporaryDirectory(prefix="latent-clip-") as folder:
        path = save_taste(train_taste(world.latent_clip, liked, disliked), Path(folder) / "t.safetensors")
        return path.stat().st_size
