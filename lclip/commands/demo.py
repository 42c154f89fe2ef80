"""`python -m lclip demo`: the main job on the mini world, as an HTML page."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path
from typing import Any

from .parsing import add_command, small_seed


def add_to(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "demo",
        run,
        """
        Make a report of the main job on the mini world: from prompts to chosen, improved and gated pictures.
        One HTML file with pictures and figures. Nothing is downloaded.
        """,
        "python -m lclip demo --out demo-report --open",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("demo-report"), metavar="FOLDER", help="of the page (%(default)s)"
    )
    parser.add_argument("--seed", type=small_seed, default=0, help="another seed tells of other prompts")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")


def run(options: argparse.Namespace) -> int:
    """Make the report."""
    from ..checkpoints.targets import check_folder
    from ..mini.demo import make_report

    check_folder(options.out)
    path = make_report(options.out, options.seed, lambda text: print(text, flush=True))
    if options.open:
        webbrowser.open(path.resolve().as_uri())
    return 0
