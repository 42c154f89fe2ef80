"""`python -m lclip reno`: noise search on the mini world."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .many import progress
from .parsing import add_command, positive, seed

if TYPE_CHECKING:
    from torch import Tensor

    from ..mini.world import World
    from ..reno.types import ReNOResult

ENLARGED = 4  # screen pixels per pixel: the mini world's pictures are 64 pixels wide
WRITTEN = ("before.png", "after.png", "curve.csv", "best.latent", "noise.latent")
GAP = 8


def add_to(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "reno",
        run,
        """
        Improve pictures of the mini world by searching better noise (ReNO, arXiv 2406.04312).
        Writes before.png and after.png, the reward of every render as curve.csv, the best latents and their
        noise as .latent. The column "watched" is the opinion of the pixel CLIP, from which the Latent-CLIP
        was distilled: where it falls while the reward rises, the search has learnt to please the reward
        alone. Faults that both share it does not show.

        This is for the mini world, whose generator comes with the library. For SDXL-Turbo and others, use the
        nodes, or lclip.reno with a generator of your own.
        """,
        'python -m lclip reno --prompt "a red star left of a blue ring on a white ground" --out improved',
    )
    parser.add_argument("--prompt", required=True, help="what the pictures should show")
    parser.add_argument(
        "--out", type=Path, default=Path("reno-result"), metavar="FOLDER", help="default: %(default)s"
    )
    parser.add_argument(
        "--pictures", type=positive, default=4, metavar="N", help="how many (default %(default)s)"
    )
    parser.add_argument(
        "--iterations", type=positive, default=50, metavar="N", help="renders of each (default %(default)s)"
    )
    parser.add_argument("--seed", type=seed, default=0, help="of the first noise (default %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int:
    """Search, write, and say what was gained."""
    import torch

    from ..checkpoints.targets import check_folder
    from ..data.files import write_latents
    from ..mini.captions import CaptionReward
    from ..mini.world import load_world
    from ..model.text_doubts import text_doubts
    from ..reno.run import ReNORun
    from ..reno.types import ReNOSettings

    if not options.prompt.strip():
        raise ValueError("the prompt is empty; expected words of the mini world, such as 'a red star'")
    check_folder(options.out, WRITTEN)
    world = load_world()
    prompts = [options.prompt] * options.pictures
    generator = torch.Generator().manual_seed(options.seed)
    noise = torch.randn(options.pictures, 4, 8, 8, generator=generator)
    for doubt in text_doubts(world.latent_clip, options.prompt):
        print(f"reno: note: {doubt}", file=sys.stderr)
    reward = CaptionReward(world.latent_clip, prompts)
    watched = CaptionReward(world.pixel_clip, prompts, before=world.decode)
    settings = ReNOSettings(iterations=options.iterations, seed=options.seed)
    search = ReNORun(world.generator(prompts), noise, reward, settings, held_out=watched)
    with progress(options, " renders", settings.renders) as bar:
        for _ in search:
            bar.update()
    result = search.result()
    _write_picture(world, result.initial_latents, options.out / "before.png")
    _write_picture(world, result.best_latents, options.out / "after.png")
    _write_curve(result, options.out / "curve.csv")
    write_latents(result.best_latents, options.out / "best.latent")
    write_latents(result.best_noise, options.out / "noise.latent")
    before, after = float(result.initial_reward.mean()), float(result.best_reward.mean())
    print(f"mean reward {before:.4f} before, {after:.4f} after; written to {options.out}")
    return 0


def _write_picture(world: World, latents: Tensor, path: Path) -> None:
    """The batch's pictures side by side."""
    import torch
    from PIL import Image

    with torch.no_grad():
        pixels = (world.decode(latents) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    number, height, width = len(pixels), pixels.shape[1] * ENLARGED, pixels.shape[2] * ENLARGED
    sheet = Image.new("RGB", (number * (width + GAP) - GAP, height), "white")
    for index, picture in enumerate(pixels):
        enlarged = Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC)
        sheet.paste(enlarged, (index * (width + GAP), 0))
    sheet.save(path)


def _write_curve(result: ReNOResult, path: Path) -> None:
    """A row per render and picture."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["render", "picture", "reward", "best so far", "watched"])
        for render, record in enumerate(result.history):
            watched = [float("nan")] * len(record.reward) if record.held_out is None else record.held_out
            rows = zip(record.reward, record.best_reward, watched, strict=True)
            for picture, values in enumerate(rows):
                writer.writerow([render, picture, *(f"{float(value):.6g}" for value in values)])
