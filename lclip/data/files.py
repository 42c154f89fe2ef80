"""Latents in a file: what the host's SaveLatent writes (.latent), .safetensors, .pt and .npy."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..checkpoints.pickles import read_pickle
from ..checkpoints.tensors import open_tensors, parse_tensors, write_tensors

SUFFIXES = (".latent", ".safetensors", ".pt", ".pth", ".npy")
NAMES = ("latent_tensor", "samples", "latents", "latent")  # of the latents in a file of several tensors
OLD_SCALE = 0.18215  # the host's first files held latents times this (SD1.5's scale), and no version entry


def read_latents(path: str | os.PathLike[str]) -> Tensor:
    """All latents of one file, as the host's LoadLatent would give them: [B, C, H, W], float32.

    Raises FileNotFoundError, and ValueError for a file that holds no latents.
    """
    return torch.stack(list(each_latent(Path(path))))


def each_latent(path: Path) -> Iterator[Tensor]:
    """The latents [C, H, W] of one file, one after the other; the file is mapped where its format allows it.

    Raises FileNotFoundError, ValueError.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    tensor, factor = _open(path)
    yield from _each(_checked(tensor, path.stat().st_size, str(path)), factor)


def parse_latents(content: bytes, name: str) -> list[Tensor]:
    """The latents [C, H, W] in a file's content; the suffix of its name says what it is. ValueError."""
    tensor, factor = _parse(content, name)
    return list(_each(_checked(tensor, len(content), name), factor))


def write_latents(z: Tensor, path: str | os.PathLike[str]) -> Path:
    """Write raw latents [B, C, H, W] as a .latent that the host's LoadLatent reads. Atomic."""
    # The host's own mark of a file whose latents are as they are on a wire.
    return write_tensors(Path(path), {"latent_tensor": z, "latent_format_version_0": torch.tensor([])})


def _open(path: Path) -> tuple[Tensor, float]:
    """The tensor of a file, and what to multiply it by."""
    suffix = path.suffix.lower()
    if suffix in (".latent", ".safetensors"):
        with open_tensors(path) as file:
            return file[_choose(file.names, str(path))], _factor(suffix, file.names)
    if suffix in (".pt", ".pth"):
        return _from_pickle(read_pickle(path), str(path)), 1.0
    if suffix == ".npy":
        empty = path.stat().st_size == 0  # which cannot be mapped
        return _npy(np.empty(0, np.uint8) if empty else np.memmap(path, mode="c"), str(path)), 1.0
    raise ValueError(f"{path} ends in {suffix!r}; expected one of {', '.join(SUFFIXES)}")


def _parse(content: bytes, name: str) -> tuple[Tensor, float]:
    suffix = Path(name).suffix.lower()
    if suffix in (".latent", ".safetensors"):
        tensors = parse_tensors(content, name)
        return tensors[_choose(tensors, name)], _factor(suffix, tensors)
    if suffix in (".pt", ".pth"):
        return _from_pickle(read_pickle(Path(name), content), name), 1.0
    return _npy(np.frombuffer(bytearray(content), np.uint8), name), 1.0


def _factor(suffix: str, names: Iterable[str]) -> float:
    """As the host's LoadLatent: a .latent without the version entry holds scaled latents."""
    return 1 / OLD_SCALE if suffix == ".latent" and "latent_format_version_0" not in names else 1.0


def _choose(held_names: Iterable[str], file: str) -> str:
    """The name of the tensor that is the latents."""
    names = list(held_names)
    for name in NAMES:
        if name in names:
            return name
    if len(names) == 1:
        return names[0]
    held = ", ".join(repr(name[:60]) for name in names[:4]) or "nothing"
    wanted = " or ".join(map(repr, NAMES))
    raise ValueError(f"{file}: which tensor is the latents? It holds {held}; expected one, or {wanted}")


def _from_pickle(content: object, file: str) -> Tensor:
    if isinstance(content, dict):
        tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        content = tensors[_choose(tensors, file)]
    if not isinstance(content, Tensor):
        kind = type(content).__name__
        raise ValueError(f"{file}: holds a {kind}; expected a tensor, or a dictionary of tensors")
    return content


def _npy(data: np.ndarray, file: str) -> Tensor:
    """The array in a .npy file's bytes, without a copy; never a pickle, and never larger than the file."""
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


def _checked(tensor: Tensor, size: int, file: str) -> Tensor:
    shape = list(tensor.shape)
    if tensor.layout != torch.strided or not tensor.is_floating_point():
        raise ValueError(f"{file}: holds {tensor.dtype} ({tensor.layout}); expected floating-point latents")
    if tensor.numel() * tensor.element_size() > size:  # zero strides can claim any size from a few bytes
        raise ValueError(f"{file}: claims shape {shape}, which is more than the file holds")
    if tensor.ndim not in (3, 4) or not tensor.numel():
        video = " Latents of videos are not read." if tensor.ndim == 5 else ""
        raise ValueError(f"{file}: holds shape {shape}; expected [C, H, W] or [B, C, H, W].{video}")
    return tensor


def _each(stored: Tensor, factor: float) -> Iterator[Tensor]:
    for item in stored if stored.ndim == 4 else stored[None]:
        copied = item.to(torch.float32, copy=True)
        yield copied if factor == 1 else copied * factor
