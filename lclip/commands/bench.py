"""`python -m lclip bench`: the benchmarks of a source checkout."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from .parsing import add_command

ROOT = Path(__file__).parents[2]


def add_to(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "bench",
        run,
        """
        Run benchmarks and write them into benchmarks/RESULTS.md.
        All options go to python -m benchmarks; --list says which there are. Benchmarks are in the source
        checkout alone: the published archive is without them.
        """,
        """
        python -m lclip bench cost --threads 2
        python -m lclip bench --list
        """,
    )
    parser.set_defaults(passes_on=True)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="sections to run; default all")
    parser.add_argument("--list", action="store_true", help="say which sections and options there are")


def run(options: argparse.Namespace) -> int:
    """Hand over."""
    if not (ROOT / "benchmarks" / "__main__.py").is_file():
        raise FileNotFoundError(
            f"there is no folder benchmarks in {ROOT}: the published archive is without it. Take the source "
            "checkout to measure"
        )
    arguments = ["--help"] if options.list else options.all_arguments
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=False).returncode
