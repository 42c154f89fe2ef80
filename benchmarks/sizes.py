"""How well each size rule reads latents of another size than the one the model was trained on."""

from __future__ import annotations

import torch

from lclip import DEFAULT_SIZE_RULE, SIZE_RULES
from lclip.mini import load_world
from lclip.statistics import wilson

from .harness import Run, table
from .scenes import WAYS, encode_scenes, hundred_way_groups, in_chunks, retrieval_hits

# title -> width and height in pixels; the native picture is 64 x 64
PICTURES = {
    "0.5x": (32, 32),
    "0.75x": (48, 48),
    "1x": (64, 64),
    "1.5x": (96, 96),
    "2x": (128, 128),
    "4x": (256, 256),
    "2:1": (128, 64),
    "1:2": (64, 128),
}


def sizes(run: Run) -> str:
    """100-way retrieval on encoded latents for every rule and size."""
    world = load_world()
    scenes = hundred_way_groups(run.choose(10, 1), seed=731)
    with torch.no_grad():
        texts = world.latent_clip.encode_text([scene.caption for scene in scenes])
    rows: dict[str, list[str]] = {rule: [] for rule in SIZE_RULES}
    for title, (width, height) in PICTURES.items():
        run.say(title)
        latents = encode_scenes(world, scenes, width, height)
        for rule, cells in rows.items():
            images = in_chunks(
                lambda part, rule=rule: world.latent_clip.encode_latents(part, size_rule=rule), latents, 50
            )
            hits = retrieval_hits(images, texts)
            cells.append(wilson(int(hits.sum()), len(hits)).percent())
    named = (
        (f"{rule} (default)" if rule == DEFAULT_SIZE_RULE else rule, *cells) for rule, cells in rows.items()
    )
    return (
        f"{WAYS}-way retrieval of test captions on encoded latents, n = {len(scenes)} scenes drawn "
        "at each size. "
        "A 2:1 picture spreads the objects over the wider side without stretching them. fit reads as "
        "interpolate what is smaller than the native size.\n\n" + table(("rule", *PICTURES), named)
    )
