"""Options that the commands share which ask something of many latents."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..latents.reader import DEFAULT_SIZE_RULE
from .parsing import positive

if TYPE_CHECKING:
    from ..bulk.questions import ModelSource

INPUTS = """
INPUT is a file of latents (.latent as the host's SaveLatent writes it, .safetensors, .pt, .npy, .npz), a tar
shard in WebDataset's layout (KEY.npy or another of these, and KEY.txt), or a folder with any of them, links
followed. A key ends at the first dot of a name, and files of one key are one sample. Latents are raw and
clean: [C, H, W], [C, 1, H, W], or a batch of them.

An item that cannot be read (damaged, NaN, of another VAE) does not stop the others: its row says why in the
column "error". What looks odd, but may be right, is in "note".

Run the same command again after an interruption, and it goes on where it was. Exit code: {exit}.
"""
EXIT = "0, or 1 if an item or a shard could not be read"
FORMATS = ("csv", "jsonl", "parquet")

# What is registered elsewhere, by name: a help is there at once, and the registries load torch.
SIZE_RULES = ("crops", "fit", "interpolate", "resize", "tiles")
ENGINES = ("auto", "plain", "ray")
PRESETS = ("i2p", "mini")


def add_input(parser: argparse.ArgumentParser) -> None:
    """What to read."""
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="files, tar shards or folders")
    add_latent_key(parser)


def add_latent_key(parser: argparse.ArgumentParser) -> None:
    """Which member of a sample."""
    parser.add_argument(
        "--latent-key",
        metavar="NAME",
        help="the member that is the latents where a sample holds several arrays: latent.npy takes "
        'KEY.latent.npy, "*" every array as a latent of its own',
    )


def add_model_options(parser: argparse.ArgumentParser, adapter: bool = True) -> None:
    """Which model, and where it computes. adapter: whether it may stand behind one."""
    group = parser.add_argument_group("model")
    which = group.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", type=Path, metavar="FILE", help="a Latent-CLIP: .pt or .safetensors")
    which.add_argument("--mini", action="store_true", help="the mini world's, which comes with this library")
    if adapter:
        group.add_argument(
            "--adapter", type=Path, metavar="FILE", help="a latent adapter, to read another VAE's latents"
        )
    group.add_argument("--device", default="auto", help="a torch device (default: the accelerator, or cpu)")
    group.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        default="float32",
        help="of the maths (default %(default)s)",
    )
    group.add_argument(
        "--batch", type=positive, default=32, metavar="N", help="latents at once (default %(default)s)"
    )


def source_of(options: argparse.Namespace) -> ModelSource:
    """The model that the options name."""
    from ..bulk.questions import ModelSource
    from ..mini.world import WEIGHTS, load_latent_clip

    path = options.model or WEIGHTS / "latent_clip.safetensors"
    adapter = getattr(options, "adapter", None)
    return ModelSource(path, options.device, options.dtype, adapter, load_latent_clip)


def add_size_rule(parser: argparse.ArgumentParser) -> None:
    """How other sizes are read."""
    parser.add_argument(
        "--size-rule",
        metavar="RULE",
        choices=SIZE_RULES,
        default=DEFAULT_SIZE_RULE,
        help="how latents of another size than the model's are read: %(choices)s (default "
        "%(default)s; what it has no map for it reads as interpolate)",
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Where the results go, and who does the work."""
    group = parser.add_argument_group("results")
    group.add_argument(
        "--out",
        type=Path,
        metavar="OUT",
        help="a .csv, .jsonl or .parquet; or a folder, for a table per shard (default: CSV to the terminal)",
    )
    group.add_argument(
        "--format",
        choices=FORMATS,
        help="of the tables in a folder (default parquet), or on the terminal (default csv)",
    )
    group.add_argument("--overwrite", action="store_true", help="throw away what OUT holds, and start anew")
    group.add_argument("--quiet", action="store_true", help="no progress bar")
    add_workers(group, "several need a folder as OUT")


def add_workers(group: argparse._ArgumentGroup, also: str) -> None:
    """Who does the work."""
    group.add_argument("--workers", type=positive, default=1, metavar="N", help=f"processes; {also}")
    group.add_argument(
        "--engine",
        metavar="ENGINE",
        choices=ENGINES,
        default="auto",
        help="%(choices)s. ray: Ray, on this machine or on the cluster that RAY_ADDRESS names; plain: "
        "without it; auto: ray for several workers where it is installed",
    )
