"""From the released training checkpoints to small files: the two towers alone; or to others' layouts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from .checkpoint import read_checkpoint, write_checkpoint
from .exports import check_folder, write_for_transformers
from .tensors import check_target

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
LAYOUTS = {"safetensors": torch.float16, "transformers": torch.float32}
"""What can be written, and the numbers' type by default. transformers computes in the type that is stored."""
NOT_OPEN_CLIP = (
    "open_clip builds its image towers for pictures of 3 channels, and its model configs have no word for "
    "another number (open_clip_torch 3.3 and before): a Latent-CLIP cannot be said in its layout. Write "
    "--to transformers, or use lclip.clip_benchmark where open_clip's contract is asked"
)


def convert(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    dtype: torch.dtype | None = None,
    to: str = "safetensors",
    overwrite: bool = False,
) -> Path:
    """Write a released .pt (or anything that `load` reads) without optimizer and VAE, for us or for others.

    dtype: float16, bfloat16 or float32, of the stored weights; None is float16, and float32 for transformers,
    which computes in the type that is stored. to: "safetensors", one file; or "transformers", a folder that
    its CLIPModel.from_pretrained reads, and `load` too. The source is mapped, not read into memory, and dst
    appears only when it is whole. It names the source and its SHA-256. Returns dst.
    A file that is there is replaced, and a folder that was written so; overwrite: another model's folder too.
    The source never is.
    Raises ValueError for the arguments, FileNotFoundError, and CheckpointError for a source that is not a
    Latent-CLIP or that float16 cannot hold.
    """
    src, dst = Path(src), Path(dst)
    if to not in LAYOUTS:
        reason = NOT_OPEN_CLIP if to == "open_clip" else f"expected {' or '.join(map(repr, LAYOUTS))}"
        raise ValueError(f"the layout is {to!r}; {reason}")
    if dtype not in (None, *DTYPES):
        raise ValueError(f"dtype is {dtype}; expected one of {', '.join(map(str, DTYPES))}")
    _check_no_source(dst, [src] if src.exists() else [])
    check_folder(dst, overwrite) if to == "transformers" else check_target(dst)
    checkpoint = read_checkpoint(src)
    _check_no_source(dst, checkpoint.files)
    source = {"source_name": src.resolve().name, "source_sha256": files_sha256(checkpoint.files)}
    stored = dtype or LAYOUTS[to]
    if to == "transformers":
        return write_for_transformers(dst, checkpoint, stored, source, overwrite)
    return write_checkpoint(dst, checkpoint.weights, checkpoint.config, checkpoint.tokenizer, stored, source)


def _check_no_source(dst: Path, files: Sequence[Path]) -> None:
    """ValueError where what is to be written would take the place of what is read."""
    for file in files:
        for place in (file.absolute(), file.resolve()):
            if dst.resolve() == place.resolve():
                raise ValueError(f"{dst} is the source; give another name, so that it is kept")
            if dst.resolve() in place.parents:
                raise ValueError(f"{dst} holds the source, {place.name}; give the name of a new folder")


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal, read in pieces."""
    return files_sha256([Path(path)])


def files_sha256(paths: Sequence[Path]) -> str:
    """SHA-256 of files one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(1 << 22):
                digest.update(piece)
    return digest.hexdigest()
