"""`python -m lclip score`: how well latents fit texts."""

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
        "score",
        run,
        "How well latents fit texts, or their own captions: the cosine, from -1 to 1.\n"
        + INPUTS.format(exit=EXIT),
        """
        python -m lclip score --model latent-clip-b-8.safetensors --text "a red fox" --text "a blue car" \\
            ComfyUI/output/latents --out scores.csv
        python -m lclip score --model latent-clip-b-8.safetensors --captions shards --out scored --workers 4
        """,
    )
    add_input(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", action="append", metavar="TEXT", help="a text; each has a column")
    what.add_argument("--captions", action="store_true", help="the text in KEY.txt beside each latent")
    add_size_rule(parser)
    add_model_options(parser)
    add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """Score."""
    from ..bulk.questions import Score

    return ask(options, Score(tuple(options.text or ()), options.size_rule))
