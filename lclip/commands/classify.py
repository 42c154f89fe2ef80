"""`python -m lclip classify`: which label fits best."""

from __future__ import annotations

import argparse
from typing import Any

from .many import ask
from .options import EXIT, INPUTS, add_input, add_model_options, add_output_options, add_size_rule
from .parsing import add_command


def add_to(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "classify",
        run,
        "Which label fits each latent best, and the probability of every label.\n" + INPUTS.format(exit=EXIT),
        """
        python -m lclip classify --model latent-clip-b-8.safetensors --label fox --label car \\
            --template "a photo of a {}" ComfyUI/output/latents --out classes.csv
        """,
    )
    add_input(parser)
    parser.add_argument(
        "--label", action="append", required=True, metavar="TEXT", help="one per class, two or more"
    )
    parser.add_argument(
        "--template",
        action="append",
        metavar="TEXT",
        help="a sentence with {} where the label goes; several are averaged (default {})",
    )
    add_size_rule(parser)
    add_model_options(parser)
    add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """Classify."""
    from ..bulk.questions import Classify

    templates = tuple(options.template or ("{}",))
    return ask(options, Classify(tuple(options.label), templates, options.size_rule))
