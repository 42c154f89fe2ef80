"""What something was trained from, as one hash: the same inputs need no second training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CHUNK = 1 << 20  # bytes of a file that are read at once


def inputs_digest(*parts: Any) -> str:
    """SHA-256 over values that a training starts from, in their order.

    parts: tensors (shape, precision and values), paths (a file's content, whatever it is called), plain
    values as they are written, and mappings and lists of these. Raises OSError for a file that cannot be
    read, ValueError for anything else.
    """
    digest = hashlib.sha256()
    for part in parts:
        _add(digest, part)
    return digest.hexdigest()


def _add(digest: Any, part: Any) -> None:
    """Add one value with its kind and length, so that no two lists of values give the same bytes."""
    if isinstance(part, Tensor):
        digest.update(f"tensor {part.dtype} {list(part.shape)};".encode())
        digest.update(part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    elif isinstance(part, Path):
        digest.update(f"file {part.stat().st_size};".encode())
        with part.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    elif isinstance(part, Mapping):
        _add(digest, [each for name in sorted(part) for each in (name, part[name])])
    elif isinstance(part, (list, tuple)):
        digest.update(f"list {len(part)};".encode())
        for each in part:
            _add(digest, each)
    elif part is None or isinstance(part, (str, int, float)):
        written = repr(part).encode()
        digest.update(f"value {len(written)};".encode() + written)
    else:
        kind = type(part).__name__
        raise ValueError(f"a {kind} cannot be hashed; expected tensors, paths, text or numbers")
