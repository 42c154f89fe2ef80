"""`python -m lclip convert`: a released checkpoint as a small file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .parsing import add_command

DTYPES = ("float16", "bfloat16", "float32")


def add_to(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "convert",
        run,
        """
        Write a checkpoint as a small .safetensors file.
        Keeps the two towers and drops the optimizer and the VAE that a released .pt carries. The target
        appears only when it is whole.
        """,
        "python -m lclip convert latent-clip-b-8.pt latent-clip-b-8.safetensors",
    )
    parser.add_argument("source", type=Path, metavar="FILE", help="a released .pt, or anything that loads")
    parser.add_argument(
        "target",
        type=Path,
        nargs="?",
        metavar="NEW",
        help="a name that ends in .safetensors; default: that of FILE, with that ending",
    )
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float16", help="of the stored weights (default %(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace NEW if it exists")


def run(options: argparse.Namespace) -> int:
    """Convert and say how much smaller the file is."""
    import torch

    from ..checkpoints.convert import convert

    target = options.target or options.source.with_suffix(".safetensors")
    if target.exists() and not options.overwrite:
        raise ValueError(f"{target} exists already; give another name, or --overwrite to replace it")
    convert(options.source, target, getattr(torch, options.dtype))
    before, after = (path.stat().st_size / 1e6 for path in (options.source, target))
    print(f"{target}: {after:.1f} MB, was {before:.1f} MB")
    return 0
