"""Latents in a file: what the host's SaveLatent writes (.latent), .safetensors, .pt, .npy, kohya's .npz."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..checkpoints.pickles import read_pickle
from ..checkpoints.tensors import open_tensors, parse_tensors, write_tensors
from .arrays import map_npy, parse_npy, read_npz

SUFFIXES = (".latent", ".safetensors", ".pt", ".pth", ".npy", ".npz")
NAMES = ("latent_tensor", "samples", "latents", "latent")  # of the latents in a file of several tensors
OLD_SCALE = 0.18215  # the host's first files held latents times this (SD1.5's scale), and no version entry


@dataclass(frozen=True)
class Stored:
    """Some latents of one file, all of one size: [B, C, H, W] as stored.

    size: as the file says it, where it holds several. factor: what to multiply by. frame: whether they were
    stored as videos of one frame, [B, C, 1, H, W].
    """

    tensor: Tensor
    size: str = ""
    factor: float = 1.0
    frame: bool = False

    def __len__(self) -> int:
        return len(self.tensor)

    def each(self) -> Iterator[Tensor]:
        """The latents [C, H, W] one by one, float32, copied."""
        for item in self.tensor:
            copied = item.to(torch.float32, copy=True)
            yield copied if self.factor == 1 else copied * self.factor


def read_latents(path: str | os.PathLike[str]) -> Tensor:
    """All latents of one file, as the host's LoadLatent would give them: [B, C, H, W], float32.

    One frame of a video, [B, C, 1, H, W], is read as a picture. Raises FileNotFoundError, and ValueError for
    a file that holds no latents, or those of several sizes.
    """
    found = stored_in(Path(path))
    if len({part.tensor.shape[1:] for part in found}) > 1:
        sizes = ", ".join(part.size for part in found)
        raise ValueError(f"{path}: holds latents of several sizes, {sizes}; expected one size")
    return torch.stack([z for part in found for z in part.each()])


def parse_latents(content: bytes, name: str) -> list[Tensor]:
    """The latents [C, H, W] in a file's content; the suffix of its name says what it is. ValueError."""
    return [z for part in stored_in(content, name) for z in part.each()]


def write_latents(z: Tensor, path: str | os.PathLike[str]) -> Path:
    """Write raw latents [B, C, H, W] as a .latent that the host's LoadLatent reads. Atomic."""
    # The host's own mark of a file whose latents are as they are on a wire.
    return write_tensors(Path(path), {"latent_tensor": z, "latent_format_version_0": torch.tensor([])})


def stored_in(source: Path | bytes, name: str = "") -> list[Stored]:
    """What a file holds, by size; mapped where the format allows it.

    source: the file, or its content; then the suffix of its name says what it is. Raises FileNotFoundError,
    ValueError.
    """
    name = name or str(source)
    if isinstance(source, Path) and not source.is_file():
        raise FileNotFoundError(f"no such file: {source}")
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    suffix = Path(name).suffix.lower()
    if suffix == ".npz":
        content = source if isinstance(source, Path) else BytesIO(source)
        arrays = read_npz(content, name)
        several = len(arrays) > 1
        return [
            _checked(array, array.nbytes, name, 1.0, size if several else "")
            for size, array in arrays.items()
        ]
    tensor, factor = _open(source, suffix, name)
    return [_checked(tensor, size, name, factor)]


def _open(source: Path | bytes, suffix: str, name: str) -> tuple[Tensor, float]:
    """The tensor of a file, and what to multiply it by."""
    if suffix in (".latent", ".safetensors"):
        if isinstance(source, bytes):
            tensors = parse_tensors(source, name)
            return tensors[_choose(tensors, name)], _factor(suffix, tensors)
        with open_tensors(source) as file:
            return file[_choose(file.names, name)], _factor(suffix, file.names)
    if suffix in (".pt", ".pth"):
        read = read_pickle(source) if isinstance(source, Path) else read_pickle(Path(name), source)
        return _from_pickle(read, name), 1.0
    if suffix == ".npy":
        if isinstance(source, Path):
            return map_npy(source), 1.0
        return parse_npy(np.frombuffer(bytearray(source), np.uint8), name), 1.0
    raise ValueError(f"{name} ends in {suffix!r}; expected one of {', '.join(SUFFIXES)}")


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


def _checked(tensor: Tensor, room: int, file: str, factor: float, size: str = "") -> Stored:
    """A tensor as [B, C, H, W]; room: bytes that it may take. Raises ValueError."""
    shape = list(tensor.shape)
    if tensor.layout != torch.strided or not tensor.is_floating_point():
        raise ValueError(f"{file}: holds {tensor.dtype} ({tensor.layout}); expected floating-point latents")
    if tensor.numel() * tensor.element_size() > room:  # zero strides can claim any size from a few bytes
        raise ValueError(f"{file}: claims shape {shape}, which is more than the file holds")
    if tensor.ndim == 5 and shape[2] > 1:
        raise ValueError(
            f"{file}: holds a video's latents of {shape[2]} frames, {shape}; expected those of pictures. In "
            "ComfyUI take out one frame with the node Latent Cut (dim t), and save that."
        )
    # [C, 1, H, W] is a frame too: no picture's latents have one channel.
    frame = tensor.ndim == 5 or (tensor.ndim == 4 and shape[1] == 1 and shape[0] > 1)
    plain = tensor.squeeze(-3) if frame else tensor
    if plain.ndim not in (3, 4) or not plain.numel():
        raise ValueError(f"{file}: holds shape {shape}; expected [C, H, W] or [B, C, H, W]")
    return Stored(plain if plain.ndim == 4 else plain[None], size, factor, frame)
