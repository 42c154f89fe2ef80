"""Files of named tensors with texts in their head (.safetensors): opened, read from bytes, written.

All that the library knows of the safetensors package is here. Tensors that are read stay parts of the mapped
file until they are used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError
from .atomic import atomic_file
from .targets import check_writable

SUFFIX = ".safetensors"
DAMAGE = (SafetensorError, OSError, ValueError, RuntimeError, KeyError)
T = TypeVar("T")
MAPPED_AT_ONCE = 1 << 25  # bytes


@dataclass(frozen=True)
class TensorFile:
    """An open file: what it holds, tensor by tensor."""

    path: Path
    names: tuple[str, ...]
    metadata: dict[str, str]
    file: Any

    def __getitem__(self, name: str) -> Tensor:
        return _or_damaged(self.path, lambda: self.file.get_tensor(name))

    def all(self) -> dict[str, Tensor]:
        """Every tensor by name."""
        return {name: self[name] for name in self.names}


@contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """A file of any number of tensors. Raises FileNotFoundError, CheckpointError."""
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    opened = _or_damaged(path, lambda: _opened(path))
    with opened as file:
        yield TensorFile(path, tuple(file.keys()), dict(file.metadata() or {}), file)


def _opened(path: Path) -> Any:
    """The package opens names in UTF-8 alone; files of older ones are read as a whole."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return nullcontext(_InMemory(path.read_bytes()))
    return safe_open(path, framework="pt", device="cpu")


class _InMemory:
    """A file's content, as the package shows an open file."""

    def __init__(self, content: bytes) -> None:
        self.tensors = safetensors.torch.load(content)  # its checks come first
        head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        self.texts = head.get("__metadata__")

    def keys(self) -> Iterable[str]:
        return self.tensors.keys()

    def metadata(self) -> dict[str, str] | None:
        return self.texts

    def get_tensor(self, name: str) -> Tensor:
        return self.tensors[name]


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a file by name, and the texts in its head. Raises FileNotFoundError, CheckpointError."""
    with open_tensors(path) as file:
        return file.all(), file.metadata


def tensors_in_turn(path: Path, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
    """These tensors of a file, to be used one after the other: what was read is not kept in memory mapped.

    Raises FileNotFoundError, CheckpointError.
    """
    left = list(reversed(list(names)))
    while left:
        with open_tensors(path) as file:
            room = MAPPED_AT_ONCE
            while left and room > 0:
                tensor = file[name := left.pop()]
                room -= tensor.numel() * tensor.element_size()
                yield name, tensor
                del tensor


def parse_tensors(content: bytes, name: str) -> dict[str, Tensor]:
    """All tensors in a file's bytes; name: what errors call it. Raises CheckpointError."""
    return _or_damaged(name, lambda: safetensors.torch.load(content))


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write tensors and texts as one step. Raises FileNotFoundError for a folder that is not there."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_file(path) as temporary:
        try:
            safetensors.torch.save_file(plain, temporary, dict(metadata) if metadata else None)
        except SafetensorError as error:  # its own word for what the system said
            raise OSError(f"{path} cannot be written: {error}") from error
    return path


def check_target(path: Path) -> Path:
    """A path that such a file can be written to, now. Raises ValueError, FileNotFoundError."""
    if path.suffix != SUFFIX:
        raise ValueError(f"the target is {path.name!r}; expected a name that ends in {SUFFIX}")
    return check_writable(path)


def _or_damaged(name: str | Path, get: Callable[[], T]) -> T:
    try:
        return get()
    except DAMAGE as error:
        raise CheckpointError(
            f"{name}: damaged or truncated, or no safetensors: {error}. Download or make it again"
        ) from error


def all_finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite, by the smallest and the largest, which NaN spoils: 15 times as fast as
    to look at each one.
    """
    if not tensor.numel():
        return True
    numbers = tensor if tensor.element_size() > 1 else tensor.float()  # of 8 bits there is no order
    return all(map(math.isfinite, map(float, torch.aminmax(numbers))))
