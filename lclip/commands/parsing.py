"""What the parsers of several commands share."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable
from typing import Any


def add_command(
    subparsers: Any, name: str, run: Callable[[argparse.Namespace], int], about: str, example: str
) -> argparse.ArgumentParser:
    """A subparser whose help ends with an example.

    about: the first line is the command's line in the list of commands; the rest follows in its own help.
    """
    about = textwrap.dedent(about).strip()
    parser = subparsers.add_parser(
        name,
        help=about.splitlines()[0],
        description=about,
        epilog="example:\n" + textwrap.indent(textwrap.dedent(example).strip(), "  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    return parser


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def seed(text: str) -> int:
    """A seed that torch takes, as ComfyUI's widgets have them, for argparse."""
    return _up_to(int(text), 2**64 - 1)


def small_seed(text: str) -> int:
    """A seed of which other seeds are made by sums and products, for argparse."""
    return _up_to(int(text), 2**32 - 1)


def _up_to(number: int, most: int) -> int:
    if not 0 <= number <= most:
        raise argparse.ArgumentTypeError(f"the seed is {number}; expected 0 to {most}")
    return number
