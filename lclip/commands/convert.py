"""`python -m lclip convert`: a released checkpoint as a small file, or as another program lays it out."""

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
        Write a checkpoint as a small .safetensors file, or as a folder for transformers.
        Keeps the two towers and drops the optimizer and the VAE that a released .pt carries. The target
        appears only when it is whole.

        --to transformers writes a folder that transformers.CLIPModel.from_pretrained reads: its pixel_values
        are latents of 4 channels. --model DIR reads it back. open_clip cannot read a Latent-CLIP: its model
        configs have no word for the number of channels.
        """,
        """
        python -m lclip convert latent-clip-b-8.pt latent-clip-b-8.safetensors
        python -m lclip convert latent-clip-b-8.pt --to transformers latent-clip-b-8-hf
        """,
    )
    parser.set_defaults(late="target")
    parser.add_argument(
        "source", type=Path, metavar="FILE", help="a released .pt, or anything that loads, a folder too"
    )
    parser.add_argument(
        "target",
        type=Path,
        nargs="?",
        metavar="NEW",
        help="a name that ends in .safetensors; default: that of FILE, with that ending. With --to "
        "transformers a folder, which must be named",
    )
    parser.add_argument(
        "--to",
        choices=("safetensors", "transformers", "open_clip"),
        default="safetensors",
        help="the layout (default %(default)s)",
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        help="of the stored weights (default float16; float32 for transformers, which computes in it)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace NEW if it exists")


def run(options: argparse.Namespace) -> int:
    """Convert and say how much smaller the file is."""
    import torch

    from ..checkpoints.convert import convert
    from ..checkpoints.targets import check_names

    target = _target(options)
    check_names(target)
    if target.exists() and not options.overwrite:
        raise ValueError(f"{target} exists already; give another name, or --overwrite to replace it")
    dtype = options.dtype and getattr(torch, options.dtype)
    convert(options.source, target, dtype, options.to, overwrite=options.overwrite)
    before, after = (_size(path) / 1e6 for path in (options.source, target))
    print(f"{target}: {after:.1f} MB, was {before:.1f} MB")
    return 0


def _target(options: argparse.Namespace) -> Path:
    if options.target is None and (options.to == "transformers" or options.source.is_dir()):
        raise ValueError(
            f"name the {'folder' if options.to == 'transformers' else 'file'} to write, after FILE"
        )
    return options.target or options.source.with_suffix(".safetensors")


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
