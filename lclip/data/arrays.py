"""Numpy's files: one array (.npy), and the latents among the arrays of an archive (.npz); never a pickle."""

from __future__ import annotations

import re
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

MAX_ENTRY_BYTES = 1 << 28  # of one array in an archive, which is read into memory
# As kohya's training scripts keep them: one array, or one for each size that a picture is trained at.
KEPT = re.compile(r"latents?(?:_(?P<size>\d+x\d+))?|samples|latent_tensor")


def map_npy(path: Path) -> Tensor:
    """The array of a file, mapped. Raises ValueError, OSError."""
    empty = path.stat().st_size == 0  # which cannot be mapped
    return parse_npy(np.empty(0, np.uint8) if empty else np.memmap(path, mode="c"), str(path))


def parse_npy(data: np.ndarray, file: str) -> Tensor:
    """The array in a .npy file's bytes, without a copy; never larger than the file. Raises ValueError."""
    header = BytesIO(data[: 1 << 16].tobytes())
    try:
        version = np.lib.format.read_magic(header)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = read[version](header)
    except Exception as error:  # numpy raises whatever a malformed header leads to
        raise ValueError(f"{file}: not a .npy file, or damaged: {error}") from error
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise ValueError(f"{file}: holds {dtype}; expected float16, float32 or float64")
    needed, there = dtype.itemsize, len(data) - header.tell()
    for side in shape:
        needed *= int(side)
    if any(side < 0 for side in shape) or needed != there:
        raise ValueError(
            f"{file}: damaged or truncated: shape {list(shape)} of {dtype} needs {needed} bytes, got {there}"
        )
    array = np.ndarray(shape, dtype, data, header.tell(), order="F" if fortran else "C")
    return torch.from_numpy(array if dtype.isnative else array.astype(dtype.newbyteorder("=")))


def read_npz(source: Path | BytesIO, file: str) -> dict[str, Tensor]:
    """The arrays of latents in an archive: by size where there are several. Raises ValueError, OSError."""
    try:
        with zipfile.ZipFile(source) as archive:
            entries = {name.filename.removesuffix(".npy"): name for name in archive.infolist()}
            found = {name: match for name in entries if (match := KEPT.fullmatch(name))}
            if not found and len(entries) == 1:
                found = dict.fromkeys(entries)
            if not found:
                held = ", ".join(repr(name[:60]) for name in list(entries)[:4]) or "nothing"
                raise ValueError(
                    f"{file}: which array is the latents? It holds {held}; expected 'latents', or "
                    "'latents_HEIGHTxWIDTH' for each size"
                )
            arrays = {}
            for name, match in found.items():
                if entries[name].file_size > MAX_ENTRY_BYTES:
                    raise ValueError(f"{file}: {name} has {entries[name].file_size} bytes; that is too many")
                data = np.frombuffer(bytearray(archive.read(entries[name])), np.uint8)
                arrays[match["size"] or name if match else name] = parse_npy(data, f"{file}, {name}")
            return arrays
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise ValueError(f"{file}: damaged or truncated: {error}") from error
