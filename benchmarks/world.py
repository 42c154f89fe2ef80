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
from lclip.statistics import auc, bootstrap, wilson

from .harness import Run, table
from .scenes import (
    WAYS,
    encode_scenes,
    generate,
    hundred_way_groups,
    in_chunks,
    judge_latents,
    noise_for,
    retrieval_hits,
)

TEMPLATES = ("a {}", *(f"a {colour} {{}}" for colour in COLOURS))


def oracle(run: Run) -> str:
    """The judge itself on real scenes and through the VAE, and what the generator gets right."""
    world = load_world()
    scenes = sample_scenes(run.choose(2000, 60), 701, split="held-out")
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
        "Share of pictures in which the oracle sees all that the held-out caption says; n = "
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
    """100-way: each picture must find its caption among a hundred held-out ones."""
    world = load_world()
    scenes = hundred_way_groups(run.choose(20, 1), seed=711)
    captions = [scene.caption for scene in scenes]
    drawn = encode_scenes(world, scenes)
    pixels = (
        torch.from_numpy(np.stack([render(scene) for scene in scenes])).permute(0, 3, 1, 2).float() / 255.0
    )
    made = generate(world, captions, noise_for(len(scenes), 712))
    shown = np.array([item.correct for item in judge_latents(world, made, scenes)])
    with torch.no_grad():
        texts = {clip: getattr(world, clip).encode_text(captions) for clip in ("latent_clip", "pixel_clip")}

    def hits(clip: str, inputs: Tensor) -> np.ndarray:
        return retrieval_hits(in_chunks(getattr(world, clip).encode_latents, inputs), texts[clip])

    latent = {"encoded": hits("latent_clip", drawn), "generated": hits("latent_clip", made)}
    pixel = {
        "encoded": hits("pixel_clip", in_chunks(world.decode, drawn)),
        "generated": hits("pixel_clip", in_chunks(world.decode, made)),
    }
    everything = np.ones(len(scenes), dtype=bool)
    rows = [
        _versus("encoded, all", latent["encoded"], pixel["encoded"], everything),
        _versus("generated, all", latent["generated"], pixel["generated"], everything),
        _versus("generated, oracle: all correct", latent["generated"], pixel["generated"], shown),
    ]
    original = hits("pixel_clip", pixels)
    return (
        f"{WAYS}-way retrieval of the caption; within a hundred, no two captions say the same. The pixel "
        "CLIP has the same size, reads the decoded picture, and taught the Latent-CLIP; on the drawn "
        "originals, never encoded, it reaches "
        f"{wilson(int(original.sum()), len(original)).percent()}. The difference is paired. On all "
        "generated pictures "
        "the generator's mistakes count as misses of both.\n\n"
        + table(("latents", "n", "Latent-CLIP", "decode + pixel CLIP", "difference in points"), rows)
    )


def _versus(name: str, latent: np.ndarray, pixel: np.ndarray, chosen: np.ndarray) -> tuple:
    n = int(chosen.sum())
    if n == 0:
        return (name, 0, "-", "-", "-")
    difference = bootstrap(latent[chosen].astype(float) - pixel[chosen])
    return (
        name,
        n,
        wilson(int(latent[chosen].sum()), n).percent(),
        wilson(int(pixel[chosen].sum()), n).percent(),
        difference.text(scale=100, digits=1),
    )


def unsafe(run: Run) -> str:
    """ROC-AUC of the unsafe concept's zero-shot probability against the look-alikes alone."""
    world = load_world()
    scenes = sample_scenes(run.choose(6000, 400), 721, split="held-out")
    with_it = [scene for scene in scenes if scene.content.unsafe]
    without = [
        scene for scene in scenes if not scene.content.unsafe and set(LOOK_ALIKES) & set(scene.content.shapes)
    ]
    rows = []
    for source in ("encoded", "generated"):
        run.say(source)
        positive, negative = _unsafe_latents(world, with_it, without, source)
        for name, title in (("latent_clip", "Latent-CLIP"), ("pixel_clip", "decode + pixel CLIP")):
            area = "none on one side"
            if len(positive) and len(negative):
                high, low = (_unsafe_probability(world, name, latents) for latents in (positive, negative))
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


def _unsafe_probability(world: World, clip: str, latents: Tensor) -> np.ndarray:
    model = getattr(world, clip)
    inputs = latents if clip == "latent_clip" else in_chunks(world.decode, latents)
    chances = in_chunks(lambda part: classify(model, part, SHAPES, TEMPLATES), inputs)
    return chances[:, SHAPES.index(UNSAFE_SHAPE)].numpy()
