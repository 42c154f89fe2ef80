"""A pixel CLIP made to read latents in a few steps, against training from scratch for as many."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lclip import LatentCLIP, space_named
from lclip.data.finding import find_shards
from lclip.data.shards import Shard
from lclip.mini import World
from lclip.mini.drawing import render_batch, sample_scenes
from lclip.mini.scenes import Scene
from lclip.mini.train_clip import CONFIG, tokenizer
from lclip.statistics import bootstrap, wilson
from lclip.training.data import StreamSettings
from lclip.training.loop import FitSettings
from lclip.training.objectives import TEACHER_PICTURE, LatentSource
from lclip.training.pixel_clips import PixelCLIP
from lclip.training.ranks import Ranks
from lclip.training.recipe import Training, stages_of
from lclip.training.samples import Decoder
from lclip.training.towers import new_towers, towers_from

from .harness import Run, table
from .scenes import (
    WAYS,
    encode_scenes,
    hundred_way_groups,
    in_chunks,
    retrieval_hits,
    to_pixels,
    world_for_cpu,
)
from .tars import npy, write_samples

STEPS = (150, 450)
BATCH = 64
RATE = 1e-3  # the mini world's own, for all
FIRST = 5  # one step of so many is of stage one, where there is one
EACH = 1000  # samples in a shard
WAYS_TO_TRAIN = {
    "from scratch, captions": ("scratch", False),
    "from the pixel CLIP, captions, two stages": ("pixel", False),
    "from the pixel CLIP, distilled from pictures, two stages": ("pixel", True),
}


@dataclass
class Bench:
    """The world, its test scenes, and training samples on the disk."""

    world: World
    held_out: list[Scene]
    folder: Path
    samples: int

    @property
    def teacher(self) -> PixelCLIP:
        """The mini world's pixel CLIP, which takes its pixels as they are."""
        return PixelCLIP(self.world.pixel_clip, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    @cached_property
    def shards(self) -> list[Shard]:
        """Scenes of the training split: KEY.npy, KEY.png and KEY.txt."""
        scenes = sample_scenes(self.samples, 861, split="train")
        for first in range(0, len(scenes), EACH):
            write_shard(self.folder / f"{first:06}.tar", self.world, scenes[first : first + EACH])
        return list(find_shards([self.folder / "*.tar"]))

    def hits(self, model: LatentCLIP) -> np.ndarray:
        """Whether each test scene's latents find its caption among a hundred: float [N]."""
        images = in_chunks(model.encode_latents, encode_scenes(self.world, self.held_out))
        return self._found(model, images)

    def pixel_hits(self) -> np.ndarray:
        """The same by the pixel CLIP, from the drawn pictures."""
        images = in_chunks(self.teacher.embed, to_pixels(render_batch(self.held_out)))
        return self._found(self.world.pixel_clip, images)

    def _found(self, model: LatentCLIP, images: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            texts = model.encode_text([scene.caption for scene in self.held_out])
        return retrieval_hits(images, texts).astype(float)

    def beginning(self, start: str) -> LatentCLIP:
        """Random towers, or the pixel CLIP's with patch embedding and positions made anew."""
        if start == "scratch":
            return new_towers(CONFIG, tokenizer())
        return towers_from(self.teacher, space_named("mini"), CONFIG.native_size, CONFIG.patch_size)

    def training(self, start: str, distilled: bool, steps: int, batch: int, folder: Path) -> Training:
        """So many steps in all."""
        settings = FitSettings(
            steps, RATE, warmup=max(1, steps // 20), weight_decay=0.05, ema_decay=None, save_every=steps
        )
        first = None
        if start == "pixel":
            early = max(1, steps // FIRST)
            first, settings = replace(settings, steps=early), replace(settings, steps=steps - early)
        model = self.beginning(start)
        pictures = {TEACHER_PICTURE: self.teacher.side} if distilled else {}
        words = None if distilled else tokenizer()
        size = CONFIG.native_size
        return Training(
            model=model,
            stages=stages_of(settings, distilled, first),
            shards=self.shards,
            decode=Decoder((CONFIG.channels, size, size), words, pictures),
            stream=StreamSettings(batch),
            latents=LatentSource(model.config, torch.device("cpu")),
            folder=folder,
            ranks=Ranks(),
            teacher=self.teacher if distilled else None,
        )


def write_shard(path: Path, world: World, scenes: Sequence[Scene]) -> None:
    """A tar shard of scenes: latents, picture and caption of each."""
    latents, pictures = encode_scenes(world, scenes).numpy(), render_batch(scenes)
    samples = (
        {"npy": npy(latents[index]), "png": _png(pictures[index]), "txt": scene.caption.encode()}
        for index, scene in enumerate(scenes)
    )
    write_samples(path, samples)


def _png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


def adaptation(run: Run) -> str:
    """Held-out retrieval after equal numbers of steps, by the project's trainer."""
    scenes = hundred_way_groups(run.choose(20, 1), seed=862)
    with tempfile.TemporaryDirectory(prefix="latent-clip-") as name:
        bench = Bench(world_for_cpu(), scenes, Path(name), run.choose(12_000, 300))
        batch = run.choose(BATCH, 16)
        lengths = [run.choose(steps, short) for steps, short in zip(STEPS, (2, 5), strict=True)]
        found = {
            (title, steps): _trained(run, bench, title, steps, batch)
            for steps in lengths
            for title in WAYS_TO_TRAIN
        }
        ends = {
            "the pixel CLIP itself, on the drawn pictures": bench.pixel_hits(),
            "the mini world's Latent-CLIP": bench.hits(bench.world.latent_clip),
            "the pixel CLIP with latents, before any step": bench.hits(bench.beginning("pixel")),
        }
    return _written(found, ends, lengths, batch, bench)


def _trained(run: Run, bench: Bench, title: str, steps: int, batch: int) -> dict[str, np.ndarray]:
    """Hits on the test scenes, and seconds of the training."""
    start, distilled = WAYS_TO_TRAIN[title]

    def job() -> dict[str, np.ndarray]:
        with tempfile.TemporaryDirectory(prefix="latent-clip-") as folder:
            training = bench.training(start, distilled, steps, batch, Path(folder))
            before = time.perf_counter()
            model = training.run()
            seconds = time.perf_counter() - before
        run.say(f"{title}, {steps} steps: {seconds:.0f} s")
        return {"hits": bench.hits(model), "seconds": np.array(seconds)}

    return run.part(f"{start} {int(distilled)} {steps}", job)


def _written(
    found: dict[tuple[str, int], dict[str, np.ndarray]],
    ends: dict[str, np.ndarray],
    lengths: list[int],
    batch: int,
    bench: Bench,
) -> str:
    first = next(iter(WAYS_TO_TRAIN))
    rows: list[tuple[object, ...]] = []
    for title in WAYS_TO_TRAIN:
        for steps in lengths:
            hits, seconds = (found[title, steps][key] for key in ("hits", "seconds"))
            over = "" if title == first else bootstrap(hits - found[first, steps]["hits"]).text(100, 1)
            rows.append((title, steps, _share(hits), over, f"{float(seconds):.0f} s"))
    rows += [(title, "", _share(hits), "", "") for title, hits in ends.items()]
    return (
        f"{WAYS}-way retrieval of test captions by encoded latents, n = {len(bench.held_out)} scenes, "
        f"after as many steps of {batch} samples of {bench.samples:,} drawn training scenes, by the trainer "
        "of `python -m lclip train`. The pixel CLIP is the mini world's; its image tower keeps all but the "
        f"patch embedding and the positions. One step of {FIRST} is of stage one, which trains these two "
        f"alone. All at the same peak learning rate, {RATE:g}. Distilled: the embeddings of the pixel CLIP "
        "are learnt, its text tower stays as it is, and no caption is read. One training for each row: "
        "intervals and the paired differences are over scenes, not over trainings. Chance is 1 %.\n\n"
        + table(("training", "steps", "retrieval", "over scratch, points", "time"), rows)
    )


def _share(hits: np.ndarray) -> str:
    return wilson(int(hits.sum()), len(hits)).percent()
