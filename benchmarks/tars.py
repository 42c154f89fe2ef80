"""Tar shards in WebDataset's layout."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np


def npy(array: np.ndarray) -> bytes:
    """An array as the content of a .npy."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def write_samples(path: Path, samples: Iterable[Mapping[str, bytes]]) -> None:
    """samples: content by ending, as {"npy": ..., "txt": ...}; their keys are numbers."""
    with tarfile.open(path, "w") as shard:
        for index, sample in enumerate(samples):
            for ending, content in sample.items():
                member = tarfile.TarInfo(f"{index:06}.{ending}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
