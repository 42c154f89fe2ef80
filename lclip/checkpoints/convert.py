"""From the released training checkpoints to small files: the two towers alone, in half precision."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch

from .checkpoint import read_checkpoint, write_checkpoint
from .tensors import check_target

DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def convert(
    src: str | os.PathLike[str], dst: str | os.PathLike[str], dtype: torch.dtype = torch.float16
) -> Path:
    """Write a released .pt (or anything that `load` reads) as .safetensors, without optimizer and VAE.

    dtype: float16, bfloat16 or float32, of the stored weights. The source is mapped, not read into memory,
    and dst appears only when it is whole. Its metadata name the source and its SHA-256. Returns dst.
    Raises ValueError for the arguments, FileNotFoundError, and CheckpointError for a source that is not a
    Latent-CLIP or that float16 cannot hold.
    """
    src, dst = Path(src), Path(dst)
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype}; expected one of {', '.join(map(str, DTYPES))}")
    check_target(dst)
    checkpoint = read_checkpoint(src)
    source = {"source_name": src.name, "source_sha256": file_sha256(src)}
    return write_checkpoint(dst, checkpoint.weights, checkpoint.config, checkpoint.tokenizer, dtype, source)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()
