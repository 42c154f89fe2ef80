"""The mini world's own figures: the oracle, the generator, retrieval, and the unsafe concept."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lclip import classify
from lclip.mini import World, load_world
from lclip.mini.drawing import render, sample_scenes
from lclip.mini.oracle import judge, shows_unsafe
from lclip.mini.scenes import COLOURS, LOOK_ALIKES, SHAPES, UNSAFE_SHAPE, Scene
from lclip.model.latent_clip import LatentCLIP
from lclip.statistics import auc, bootstrap, wilson

from .harness import Run, table
from .scenes import (
    PIXEL,
    WAYS,
    encode_scenes,
    generate,
    hundred_way_groups,
    in_chunks,
    judge_latents,
    noise_for,
    readers,
    retrieval_hits,
)

TEMPLATES = ("a {}", *(f"a {colour} {{}}" for colour in COLOURS))


def oracle(run: Run) -> str:
    """The judge itself on real scenes and through the VAE, and what the generator gets right."""
    world = load_world()
    scenes = sample_scenes(run.choose(2000, 60), 701, split="test")
    real = [judge(render(scene), scene) for scene in scenes]
    coded = judge_latents(world, encode_scenes(world, scenes), scenes)
    rows = [
        ("drawn", *_accuracy(real)),
        ("drawn, through the VAE", *_accuracy(coded)),
    ]
    noise = noise_for(len(scenes), 702)
    for steps in (1, 4, 20):
        run.say(f"{steps} steps")
        made = generate(world, [scene.caption for scene in scenes], noise, steps)
        rows.append(
            (f"generated, {steps} step{'s' * (steps > 1)}", *_accuracy(judge_latents(world, made, scenes)))
        )
    parts = ("ground", "count", "shape", "colour")
    return (
        "Share of pictures in which the oracle sees all that the test caption says; n = "
        f"{len(scenes)} captions, "
        "one noise each. The last columns are single parts.\n\n"
        + table(("pictures", "all correct", *parts), rows)
    )


def _accuracy(judgements: list) -> list[str]:
    right = sum(item.correct for item in judgements)
    cells = [wilson(right, len(judgements)).percent()]
    for part in ("ground", "count", "shape", "colour"):
        cells.append(f"{100 * np.mean([item.parts[part] for item in judgements]):.1f} %")
    return cells


def retrieval(run: Run) -> str:
    """100-way: each picture must find its caption among a hundred test ones."""
    world = load_world()
    scenes = hundred_way_groups(run.choose(20, 1), seed=711)
    captions = [scene.caption for scene in scenes]
    drawn = encode_scenes(world, scenes)
    pixels = (
        torch.from_numpy(np.stack([render(scene) for scene in scenes])).permute(0, 3, 1, 2).float() / 255.0
    )
    made = generate(world, captions, noise_for(len(scenes), 712))
    shown = np.array([item.correct for item in judge_latents(world, made, scenes)])
    clips = readers(world)
    with torch.no_grad():
        texts = {name: clip.encode_text(captions) for name, clip in clips.items()}

    def hits(name: str, inputs: Tensor) -> np.ndarray:
        return retrieval_hits(in_chunks(clips[name].encode_latents, inputs), texts[name])

    def all_hits(latents: Tensor) -> dict[str, np.ndarray]:
        seen = {PIXEL: in_chunks(world.decode, latents)}
        return {name: hits(name, seen.get(name, latents)) for name in clips}

    encoded, generated = all_hits(drawn), all_hits(made)
    everything = np.ones(len(scenes), dtype=bool)
    rows = [
        _versus("encoded, all", encoded, everything),
        _versus("generated, all", generated, everything),
        _versus("generated, oracle: all correct", generated, shown),
    ]
    original = hits(PIXEL, pixels)
    return (
        f"{WAYS}-way retrieval of the caption; within a hundred, no two captions say the same. The pixel "
        "CLIP has the same size, reads the decoded picture, and taught the first Latent-CLIP; on the drawn "
        "originals, never encoded, it reaches "
        f"{wilson(int(original.sum()), len(original)).percent()}. Differences are paired, in points, less "
        f"{PIXEL}. On all generated pictures the generator's mistakes count as misses of all.\n\n"
        + table(("latents", "n", *clips, *(f"{name}, difference" for name in clips if name != PIXEL)), rows)
    )


def _versus(name: str, hits: dict[str, np.ndarray], chosen: np.ndarray) -> tuple:
    n = int(chosen.sum())
    if n == 0:
        return (name, 0, *["-"] * (2 * len(hits) - 1))
    shares = [wilson(int(found[chosen].sum()), n).percent() for found in hits.values()]
    pixel = hits[PIXEL][chosen]
    others = [found[chosen].astype(float) - pixel for who, found in hits.items() if who != PIXEL]
    return (name, n, *shares, *(bootstrap(difference).text(scale=100, digits=1) for difference in others))


def unsafe(run: Run) -> str:
    """ROC-AUC of the unsafe concept's zero-shot probability against the look-alikes alone."""
    world = load_world()
    scenes = sample_scenes(run.choose(6000, 400), 721, split="test")
    with_it = [scene for scene in scenes if scene.content.unsafe]
    without = [
        scene for scene in scenes if not scene.content.unsafe and set(LOOK_ALIKES) & set(scene.content.shapes)
    ]
    rows = []
    for source in ("encoded", "generated"):
        run.say(source)
        positive, negative = _unsafe_latents(world, with_it, without, source)
        for title, clip in readers(world).items():
            area = "none on one side"
            if len(positive) and len(negative):
                high, low = (_unsafe_probability(world, clip, latents) for latents in (positive, negative))
                area = auc(high, low).text(digits=3)
            rows.append((source, title, len(positive), len(negative), area))
    labels = ", ".join(SHAPES)
    return (
        f"Score: zero-shot probability of {UNSAFE_SHAPE!r} among {labels}, over {len(TEMPLATES)} templates. "
        f"Negatives all show a look-alike ({' or '.join(LOOK_ALIKES)}) and no {UNSAFE_SHAPE}. "
        "Truth: the drawn scene for encoded latents, what the oracle sees for generated ones.\n\n"
        + table(("latents", "scorer", "unsafe n", "look-alike n", "ROC-AUC"), rows)
    )


def _unsafe_latents(
    world: World, with_it: list[Scene], without: list[Scene], source: str
) -> tuple[Tensor, Tensor]:
    if source == "encoded":
        return encode_scenes(world, with_it), encode_scenes(world, without)
    scenes = with_it + without
    latents = generate(world, [scene.caption for scene in scenes], noise_for(len(scenes), 722))
    pictures = in_chunks(world.decode, latents).permute(0, 2, 3, 1).numpy()
    seen = torch.tensor([shows_unsafe(picture) for picture in pictures])
    return latents[seen], latents[~seen]


def _unsafe_probability(world: World, clip: LatentCLIP, latents: Tensor) -> np.ndarray:
    inputs = in_chunks(world.decode, latents) if clip is world.pixel_clip else latents
    chances = in_chunks(lambda part: classify(clip, part, SHAPES, TEMPLATES), inputs)
    return chances[:, SHAPES.index(UNSAFE_SHAPE)].numpy()
