"""The probe: a small Latent-CLIP of real latents of named drawings, trained by the project's own trainer.

It is the judge of what maps between spaces and sizes cost, and nothing to ship. Beside it stands a CLIP of
equal towers that reads the same drawings' pixels.

    python -m benchmarks.real probe

encodes the drawings, writes them as tar shards (mirrored, and moved by whole cells, which latents allow
nearly exactly; with other colours and some noise), and trains; the same command goes on where it was stopped.
"""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from lclip.data.finding import find_shards
from lclip.data.samples import PICTURE
from lclip.model.config import LatentCLIPConfig
from lclip.training.data import StreamSettings
from lclip.training.loop import FitSettings
from lclip.training.objectives import VAE_PICTURE, LatentSource
from lclip.training.ranks import Ranks
from lclip.training.recipe import Training, stages_of
from lclip.training.samples import Decoder
from lclip.training.towers import new_towers

from . import catalogue
from .encoded import PIXELS, Encoded, Size, encode_plan, load_encoded
from .plans import Item
from .probe_plan import GROUPS, NATIVE, asked, learnt

LEARNT = 3600  # drawings
COMPARED = 200  # drawings at other sizes and in other spaces
SIZES: dict[str, Size] = {
    "2x": 1024,
    "1.5x": 768,
    "832x1216": (832, 1216),
    "1216x832": (1216, 832),
    "1536x640": (1536, 640),
    "1.25x": 640,
    "3x": 1536,
}
ALL = ("2x",)  # of the drawings; at other sizes a half
OTHERS = ("flux", "sd3", "flux2", "sd1.5")
THROUGH = ("2x", "flux")  # of these the way through pixels too, which takes longest
SHARD = 50  # drawings encoded at once
VERSIONS = {"sdxl": 12, PIXELS: 6}  # of each drawing, mirrored, moved, recoloured
MOVED = 8  # cells at most, each way
JITTER, NOISE = 0.15, 0.2  # of the spread
SPREAD = {"sdxl": 6.5, PIXELS: 64.0}
CELLS, CELL = NATIVE // 8, 4  # cells a side, pixels a cell of the pictures that the other CLIP reads
PICTURES = CELLS * CELL
PRECISION = torch.bfloat16  # of the encoders, and of the training
STEPS, BATCH, RATE, WARMUP, AVERAGE = 320, 256, 2e-3, 30, 0.98
READERS = {"patch-4": (4, "sdxl"), "patch-8": (8, "sdxl"), "pixels": (8, PIXELS)}
"""Probes by name: cells a patch and what is read. A cell of pixels is as large as one of latents."""


def config(reader: str) -> LatentCLIPConfig:
    """A probe's towers, alike but for what they read."""
    patch, space = READERS[reader]
    return LatentCLIPConfig(
        embed_dim=128,
        channels=3 if space == PIXELS else 4,
        patch_size=patch * CELL if space == PIXELS else patch,
        grid=CELLS // patch,
        vision_width=128,
        vision_layers=4,
        vision_heads=4,
        text_width=128,
        text_layers=1,
        text_heads=4,
        context_length=24,
        vocab_size=49408,
        latent_space=space,
    )


def checkpoint(cache: Path, reader: str) -> Path:
    """Where a trained probe lies."""
    return cache / "probe" / reader / "model.safetensors"


def make(cache: Path, say: Callable[[str], None] = print) -> None:
    """Encode the drawings and train all probes, as far as that has not been done.

    Raises FileNotFoundError without pictures, TinyMissing without TAESD.
    """
    pictures = catalogue.load(cache)

    def encode(plan: str, items: Sequence[Item], space: str, size: Size) -> None:
        encode_plan(cache, f"probe-{plan}", items, space, size, SHARD, say=say, precision=PRECISION)

    for space in ("sdxl", PIXELS):
        encode("learnt", learnt(pictures, LEARNT), space, side_of(space))
        for question in GROUPS:
            encode(question, asked(pictures, question), space, side_of(space))
    for reader, (_, space) in READERS.items():
        if not checkpoint(cache, reader).is_file():
            say(f"training the probe {reader}")
            shards = write_shards(cache / "probe" / "shards" / space, load_learnt(cache, space), space)
            (train_on_pixels if space == PIXELS else train)(shards, checkpoint(cache, reader).parent, reader)
    compared = asked(pictures, "style")[:COMPARED]
    for space in OTHERS:
        encode("style", compared, space, NATIVE)
    for title, size in SIZES.items():
        encode("style", compared if title in ALL else compared[: COMPARED // 2], "sdxl", size)


def side_of(space: str) -> int:
    """Pixels each way of what is read natively in a space."""
    return PICTURES if space == PIXELS else NATIVE


def load_learnt(cache: Path, space: str) -> Encoded:
    """The drawings that are learnt from, as far as they are encoded."""
    return load_encoded(cache, "probe-learnt", space, side_of(space))


def caption(item: dict, rng: random.Random | None = None) -> str:
    """A drawing's name, and at most six key words that it does not say; with `rng`, said in other ways."""
    said = item["name"].split()
    words = [word.lower() for word in item["keywords"] if word.lower() not in said]
    if rng is None:
        return ", ".join([item["name"], *words[:6]])
    some = rng.sample(words, min(len(words), rng.randint(0, 4)))
    name = rng.choice(["{}", "{}", "a drawing of {}", "a picture of a {}"]).format(item["name"])
    return ", ".join([name, *some])


def moved(z: Tensor, rng: random.Random, cell: int = 1) -> Tensor:
    """A picture [C, h, w] of cells mirrored or not and moved by whole cells, the edge repeated."""
    z = z.flip(-1) if rng.random() < 0.5 else z
    margin = MOVED * cell
    top, left = (rng.randint(0, 2 * MOVED) * cell for _ in range(2))
    wide = F.pad(z[None].float(), (margin,) * 4, mode="replicate")[0].to(z.dtype)
    return wide[:, top : top + z.shape[-2], left : left + z.shape[-1]].contiguous()


def jittered(z: Tensor, rng: random.Random, spread: float) -> Tensor:
    """A picture [C, h, w] with other colours, more or less: channels shifted and scaled, and a little noise.

    spread: the usual standard deviation of what is read.
    """
    draws = torch.Generator().manual_seed(rng.getrandbits(40))
    shift, gain = (torch.randn(2, len(z), 1, 1, generator=draws) * JITTER).unbind()
    noise = rng.uniform(0, NOISE) * torch.randn(z.shape, generator=draws)
    changed = z.float() * (1 + gain) + spread * (shift + noise)
    return changed.to(z.dtype) if z.is_floating_point() else changed.round().clamp(0, 255).to(z.dtype)


def write_shards(folder: Path, drawings: Encoded, space: str) -> Path:
    """Tar shards as the trainer reads them, one a version of all drawings, made once. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for version in range(VERSIONS[space]):
        target = folder / f"{version:03d}.tar"
        if target.exists():
            continue
        rng = random.Random(f"version {version}")
        part = target.with_suffix(".part")
        with tarfile.open(part, "w") as archive:
            for number, (z, item) in enumerate(zip(drawings.latents, drawings.items, strict=True)):
                z = jittered(moved(z, rng, CELL if space == PIXELS else 1), rng, SPREAD[space])
                kind, content = _member(z, space)
                said = caption(item, random.Random(f"caption {version} {item['name']}"))
                for name, data in ((kind, content), ("txt", said.encode())):
                    entry = tarfile.TarInfo(f"{version:03d}-{number:05d}.{name}")
                    entry.size = len(data)
                    archive.addfile(entry, io.BytesIO(data))
        part.replace(target)
    return folder


def _member(z: Tensor, space: str) -> tuple[str, bytes]:
    written = io.BytesIO()
    if space == PIXELS:
        Image.fromarray(z.permute(1, 2, 0).numpy()).save(written, "png", compress_level=1)
        return "png", written.getvalue()
    np.save(written, z.numpy())
    return "npy", written.getvalue()


def train(shards: Path, run: Path, reader: str, steps: int = STEPS, batch: int = BATCH) -> None:
    """`python -m lclip train` on latents; the same call goes on where it was."""
    run.mkdir(parents=True, exist_ok=True)
    sizes = run / "config.json"
    sizes.write_text(json.dumps(asdict(config(reader))), encoding="utf-8")
    command = [sys.executable, "-m", "lclip", "train", "--data", str(shards), "--out", str(run)]
    command += ["--model", str(sizes), "--space", "sdxl", "--device", "cpu", "--optimizer", "muon"]
    for option, value in {
        "steps": steps,
        "batch-size": batch,
        "learning-rate": RATE,
        "warmup": WARMUP,
        "ema": AVERAGE,
        "shuffle": 6000,
        "save-every": 50,
        "log-every": 25,
        "precision": str(PRECISION).removeprefix("torch."),
    }.items():
        command += [f"--{option}", str(value)]
    subprocess.run(command, check=True)


def train_on_pixels(shards: Path, run: Path, reader: str, steps: int = STEPS, batch: int = BATCH) -> None:
    """The same recipe on pictures, which the command has no towers for."""
    towers, cpu = new_towers(config(reader)), torch.device("cpu")
    settings = FitSettings(
        steps=steps,
        learning_rate=RATE,
        warmup=WARMUP,
        weight_decay=0.2,
        ema_decay=AVERAGE,
        save_every=50,
        eps=1e-6,
        optimizer="muon",
        precision="bfloat16",
    )
    Training(
        model=towers,
        stages=stages_of(settings, False),
        shards=list(find_shards([shards], holding=(PICTURE,))),
        decode=Decoder(tokenizer=towers.tokenizer, pictures={VAE_PICTURE: PICTURES}),
        stream=StreamSettings(batch, 6000),
        latents=LatentSource(towers.config, cpu, pixels_as_read),
        folder=run,
        ranks=Ranks(device=cpu),
        log_every=25,
    ).run()


def pixels_as_read(pixels: Tensor) -> Tensor:
    """Pixels in 0..1 on about the scale of standardised latents."""
    return (pixels - 0.5) / 0.25
