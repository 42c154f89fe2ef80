"""`python -m lclip.mini.train`: makes everything that the mini world ships, from nothing.

vae -> generator
vae, vae16, generator -> generator16
vae, pixel_clip, generator -> latent_clip
vae, latent_clip -> half
vae, pixel_clip, generator -> alone

Two stages are at work at a time. Every stage writes one file of half-precision weights, can be stopped at any
moment and goes on where it was. The same seed, thread count, torch and kind of processor give the same
weights.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..adapters.files import save_adapter
from ..checkpoints.checkpoint import load, save_checkpoint
from ..checkpoints.tensors import write_tensors
from .drawing import render_batch, sample_scenes
from .train_alone import new_alone, train_alone
from .train_clip import GROUPS, POOL_GROUPS, Pool, draw_pool, tokenizer, train_clip
from .train_generator import Generator, draw_pairs, train_generator
from .train_latent_clip import NAMELESS, PICTURES_SEED, new_student, train_latent_clip
from .train_size_map import train_size_map
from .train_twin import PAIRS as TWIN_PAIRS
from .train_twin import make_ways, train_twin
from .train_vae import TWIN, to_pixels, train_vae
from .vae import RAW_STD, TWIN_STD, MiniVAE, twin_vae
from .world import ALONE, FORMAT, HALF, WEIGHTS, load_module, load_world

logger = logging.getLogger("latent-clip")


def make_vae(work: Path, out: Path, steps: int | None) -> None:
    """Train and ship the VAE, with its latent format."""
    vae = train_vae(work, steps)
    ship(vae, out / "vae.safetensors", {"latent_format": latent_format(vae, "mini", RAW_STD)})


def make_generator(work: Path, out: Path, steps: int | None) -> None:
    """Train and ship the text encoder and the denoiser."""
    vae, _ = load_module(MiniVAE(), out / "vae.safetensors")
    words = tokenizer()
    generator = train_generator(draw_pairs(vae, words), words.vocab_size, work, steps)
    ship(generator, out / "generator.safetensors")


def make_twin_vae(work: Path, out: Path, steps: int | None) -> None:
    """Train and ship the 16-channel twin's VAE, with its latent format."""
    vae = train_vae(work, steps, TWIN)
    ship(vae, out / "vae16.safetensors", {"latent_format": latent_format(vae, "mini-16", TWIN_STD)})


def make_twin_generator(work: Path, out: Path, steps: int | None) -> None:
    """Train and ship the generator's ways into and out of the twin's latents."""
    vae, _ = load_module(MiniVAE(), out / "vae.safetensors")
    twin, _ = load_module(twin_vae(), out / "vae16.safetensors")
    words = tokenizer()
    generator, _ = load_module(Generator(words.vocab_size), out / "generator.safetensors")
    ways = make_ways(vae, twin, to_pixels(render_batch(sample_scenes(1500, seed=71))))
    pairs = draw_pairs(twin, words, TWIN_PAIRS, seed=72, raw_std=TWIN_STD)
    ship(train_twin(ways, generator.denoiser, generator.text_encoder, pairs, work, steps),
         out / "generator16.safetensors")  # fmt: skip


def make_latent_clip(work: Path, out: Path, steps: int | None) -> None:
    """Distil and ship the CLIP that reads latents."""
    teacher = load(out / "pixel_clip.safetensors")
    world = load_world(folder=out, latent_clip=new_student(teacher))
    pool = draw_pool(PICTURES_SEED, NAMELESS, POOL_GROUPS if steps is None else GROUPS)
    model = train_latent_clip(world, encode_pool(world.vae, pool), work, steps)
    save_checkpoint(model, out / "latent_clip.safetensors", torch.float16, source_name="lclip.mini.train")


def make_alone(work: Path, out: Path, steps: int | None) -> None:
    """Train and ship the CLIP that reads latents and had no teacher; a pixel CLIP only fills the world."""
    world = load_world(folder=out, latent_clip=new_alone())

    def pools(seed: int, nameless: float) -> tuple[Pool, torch.Tensor]:
        pool = draw_pool(seed, nameless, POOL_GROUPS if steps is None else GROUPS)
        return pool, encode_pool(world.vae, pool)

    model = train_alone(world, pools, work, steps)
    save_checkpoint(model, out / ALONE, torch.float16, source_name="lclip.mini.train")


def make_size_map(work: Path, out: Path, steps: int | None) -> None:
    """Train and ship the map that halves latents, for the size rule "fit"; short enough to begin anew."""
    vae, _ = load_module(MiniVAE(), out / "vae.safetensors")
    adapter = train_size_map(vae, load(out / "latent_clip.safetensors"), steps)
    save_adapter(adapter, out / HALF, torch.float16)


def make_pixel_clip(work: Path, out: Path, steps: int | None) -> None:
    """Train and ship the CLIP of equal size that reads pixels in 0..1."""
    model = train_clip(work / "pixel_clip.pt", steps)
    save_checkpoint(model, out / "pixel_clip.safetensors", torch.float16, source_name="lclip.mini.train")


@dataclass(frozen=True)
class Stage:
    """One part of the world: what makes it from its files and a number of steps, and which parts it needs."""

    make: Callable[[Path, Path, int | None], None]
    needs: tuple[str, ...] = ()


# In the order in which they begin: so both workers are at work nearly to the end.
STAGES = {
    "vae": Stage(make_vae),
    "pixel_clip": Stage(make_pixel_clip),
    "generator": Stage(make_generator, ("vae",)),
    "vae16": Stage(make_twin_vae),
    "latent_clip": Stage(make_latent_clip, ("vae", "pixel_clip", "generator")),
    "generator16": Stage(make_twin_generator, ("vae", "generator", "vae16")),
    "half": Stage(make_size_map, ("vae", "latent_clip")),
    "alone": Stage(make_alone, ("vae", "pixel_clip", "generator")),
}
WORKERS = 2


@torch.no_grad()
def encode_pool(vae: MiniVAE, pool: Pool) -> torch.Tensor:
    """Raw latents [N, 4, 8, 8] of the pool's pictures."""
    batches = range(0, len(pool.pictures), 200)
    return torch.cat(
        [vae.encode(to_pixels(pool.pictures[first : first + 200])) for first in batches]
    ).contiguous()


@torch.no_grad()
def latent_format(vae: MiniVAE, name: str, raw_std: float) -> dict:
    """Scale, shift, and the least-squares map from scaled latents to RGB, for previews."""
    pixels = to_pixels(render_batch(sample_scenes(1000, seed=41)))
    scaled = ((vae.encode(pixels) - vae.shift) / raw_std).permute(0, 2, 3, 1).reshape(-1, vae.channels)
    target = nn.functional.avg_pool2d(pixels, 8).permute(0, 2, 3, 1).reshape(-1, 3)
    known = torch.cat([scaled, torch.ones(len(scaled), 1)], 1)
    solution = torch.linalg.lstsq(known.cpu().double(), target.cpu().double()).solution
    *factors, bias = [[round(value, 4) for value in row] for row in solution.tolist()]
    return {"name": name, "scale_factor": 1.0 / raw_std, "shift": vae.shift, "channels": vae.channels,
            "rgb_factors": factors, "rgb_bias": bias}  # fmt: skip


def ship(module: nn.Module, path: Path, about: dict | None = None) -> None:
    """Write half-precision weights and notes, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.half() for name, tensor in module.state_dict().items()}
    write_tensors(path, weights, {"about": json.dumps({**FORMAT.head(), **(about or {})})})


def run_all(
    start: Callable[[str], subprocess.Popen], stages: Mapping[str, Stage] = STAGES, workers: int = WORKERS
) -> int:
    """Run every stage as a process of its own as soon as what it needs is there, `workers` at a time.

    -> 0, or the exit code of the first one that failed: then no other begins, and those at work finish.
    Raises ValueError for stages that need what no stage makes.
    """
    waiting, done, running, code = list(stages), set(), {}, 0
    while running or (waiting and not code):
        for name in [name for name in waiting if done.issuperset(stages[name].needs)]:
            if len(running) < workers and not code:
                running[name] = start(name)
                waiting.remove(name)
        if not running and not code:
            raise ValueError(f"{', '.join(waiting)} wait for what no stage makes; expected stages as needs")
        for name, process in list(running.items()):
            if process.poll() is not None:
                del running[name]
                done.add(name)
                code = code or process.returncode
        time.sleep(0.1)
    return code


def main() -> int:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        prog="python -m lclip.mini.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), help="only these, in this process")
    parser.add_argument(
        "--work", type=Path, default=Path("build/mini"), help="resumable checkpoints (%(default)s)"
    )
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the shipped files go")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads per process (%(default)s)")
    parser.add_argument("--steps", type=int, help="fewer steps per stage, to try the pipeline")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not options.stages:
        command = [sys.executable, "-m", __spec__.name if __spec__ else "lclip.mini.train", *sys.argv[1:]]
        return run_all(lambda stage: subprocess.Popen([*command, "--stages", stage]))
    torch.set_num_threads(options.threads)
    for stage in options.stages:
        STAGES[stage].make(options.work, options.out, options.steps)
        logger.info("%s is done", stage)
    return 0


if __name__ == "__main__":
    sys.exit(main())
