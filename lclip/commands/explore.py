"""`python -m lclip explore`: a map between seeds and prompts, as an HTML page."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from pathlib import Path
from typing import Any

from .parsing import add_command, positive, seed

PROMPTS = ("a red star", "a blue ring")
"""Shown where no prompt is given."""


def add_to(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "explore",
        run,
        """
        Map what lies between seeds and prompts of the mini world, as one HTML page to click through.
        Every cell is a picture with its score for each text: as heat, with a contour where it crosses a
        value, and the steepest way up. Two corners of a kind span one axis, three or four span two; where
        there are more than two axes, the page holds a map of every two. Nothing is downloaded.

        This is for the mini world, whose generator comes with the library. For SDXL-Turbo and others, use the
        node Explore Latents, or lclip.explore with a generator of your own.
        """,
        """
        python -m lclip explore --mini --open
        python -m lclip explore --mini --prompt "a red star" --prompt "a blue ring" --seeds 7 8 --open
        """,
    )
    parser.add_argument("--mini", action="store_true", required=True, help="of the mini world: say so")
    parser.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help=f"what to show; up to 4 as corners (default: {', '.join(PROMPTS)})",
    )
    parser.add_argument(
        "--seeds", type=seed, nargs="+", default=[0, 1, 2, 3], metavar="N", help="up to 4 (default 0 1 2 3)"
    )
    parser.add_argument("--text", action="append", metavar="TEXT", help="to score for (default: the prompts)")
    parser.add_argument(
        "--cells", type=int, default=6, metavar="N", help="a side, 2 to 32 (default %(default)s)"
    )
    parser.add_argument("--steps", type=positive, default=1, metavar="N", help="per picture (default 1)")
    parser.add_argument(
        "--axes", nargs=2, metavar=("X", "Y"), help='only these two, such as "noise 1-2" "prompt 1-2"'
    )
    parser.add_argument(
        "--elsewhere",
        default="",
        metavar="PLACES",
        help='of other axes, such as "prompt 1-2 0.5" (default 0)',
    )
    parser.add_argument(
        "--contour", type=float, metavar="SCORE", help="where it is drawn (default: each text's middle)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("explore.html"), metavar="FILE", help="the page (%(default)s)"
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")


def run(options: argparse.Namespace) -> int:
    """Render, score and write."""
    from ..checkpoints.targets import check_writable
    from ..exploring.explore import checked_texts
    from ..mini.explore import write_explored
    from ..mini.world import load_world
    from ..model.text_doubts import text_doubts

    check_writable(options.out)
    prompts = checked_texts(options.prompt or PROMPTS)
    texts = checked_texts(options.text or prompts)
    world = load_world()
    maps = write_explored(
        world,
        options.seeds,
        prompts,
        texts,
        options.out,
        axes=tuple(options.axes) if options.axes else None,
        side=options.cells,
        elsewhere=options.elsewhere,
        level=options.contour,
        steps=options.steps,
    )
    for doubt in text_doubts(world.latent_clip, [*prompts, *texts]):
        print(f"explore: note: {doubt}", file=sys.stderr)
    for found in maps:
        best = [(float(each.max()), int(each.argmax())) for each in found.scores]
        for text, (score, cell) in zip(found.texts, best, strict=True):
            print(f"{text}: best {score:.4f} at {found.plan.told(cell)}")
    print(f"{sum(len(found.plan) for found in maps)} pictures; written to {options.out}")
    if options.open:
        webbrowser.open(options.out.resolve().as_uri())
    return 0
