"""`python -m lclip embed`: embeddings, to keep."""

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
        "embed",
        run,
        "The embedding of every latent, of length 1.\n"
        "Parquet is the format for many; a CSV holds each embedding as a list in one cell.\n"
        + INPUTS.format(exit=EXIT),
        """
        python -m lclip embed --model latent-clip-b-8.safetensors shards --out embeddings --workers 4
        """,
    )
    add_input(parser)
    add_size_rule(parser)
    add_model_options(parser)
    add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """Embed."""
    from ..bulk.questions import Embed

    return ask(options, Embed(options.size_rule))
