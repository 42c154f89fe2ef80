"""Reading PyTorch's pickles without running what they say.

`torch.load(weights_only=True)` is the lock. In front of it stands a stricter one: before anything is built,
the pickle's instructions are read as data, and a file that names anything but the few globals of the released
checkpoints is refused. Numpy scalars, which only the optimizer's state holds, are never built: inert
stand-ins take their place.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..errors import CheckpointError

MAX_PICKLE_BYTES = (
    8 << 20
)  # the instructions alone, without the tensors; the released files have about 0.3 MB
STORAGES = ("Float", "Half", "BFloat16", "Double", "Long")
ALLOWED_GLOBALS = frozenset(
    {
        *(f"torch {name}Storage" for name in STORAGES),
        "torch._utils _rebuild_tensor_v2",
        "collections OrderedDict",
        "_codecs encode",
        "numpy dtype",
        "numpy.core.multiarray scalar",
        "numpy._core.multiarray scalar",
    }
)
OTHER_CLASS_OPCODES = frozenset(
    {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "PERSID"}
)


class _Inert:
    """Stands for a numpy scalar or dtype: takes anything, does nothing, keeps nothing."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


def _stand_in(module: str, name: str) -> Any:
    # torch finds an allowed global by its module and name, in every version; later ones also take pairs.
    return type(name, (_Inert,), {"__module__": module, "__qualname__": name})


STAND_INS = [
    _stand_in("numpy", "dtype"),
    _stand_in("numpy.core.multiarray", "scalar"),
    _stand_in("numpy._core.multiarray", "scalar"),
]


def read_pickle(path: Path, content: BinaryIO | None = None) -> Any:
    """The content of a PyTorch zip file; its tensors are mapped, not read. Raises CheckpointError.

    content: the file's bytes where it is no file of its own, as in an archive; path then only names it.
    """
    _check_archive(path, content)
    try:
        with _only_stand_ins():
            source, mapped = (path, True) if content is None else (content, False)
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except MemoryError as error:
        raise CheckpointError(f"{path}: damaged: it asks for more memory than there is") from error
    except Exception as error:  # a hostile pickle can make torch raise anything at all
        raise CheckpointError(f"{path}: damaged, or not a checkpoint: {_first_line(error)}") from error


@contextmanager
def _only_stand_ins() -> Iterator[None]:
    """Allow the stand-ins and nothing else: another pack may have allowed numpy's own, for its own files."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(STAND_INS)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _check_archive(path: Path, content: BinaryIO | None) -> None:
    try:
        with zipfile.ZipFile(path if content is None else content) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")]
            if len(pickles) != 1 or len(set(names)) != len(names):
                raise CheckpointError(
                    f"{path}: not a PyTorch checkpoint: expected one data.pkl, got {len(pickles)}"
                )
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise CheckpointError(f"{path}: not written by PyTorch: its entries are compressed")
            if pickles[0].file_size > MAX_PICKLE_BYTES:
                raise CheckpointError(
                    f"{path}: data.pkl has {pickles[0].file_size} bytes; expected at most {MAX_PICKLE_BYTES}"
                )
            instructions = archive.read(pickles[0])
        if content is not None:
            content.seek(0)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: damaged or truncated: {_first_line(error)}. Download it again and compare its size."
        ) from error
    _check_instructions(instructions, path)


def _check_instructions(instructions: bytes, path: Path) -> None:
    try:
        for opcode, argument, _ in pickletools.genops(instructions):
            if opcode.name == "GLOBAL" and argument not in ALLOWED_GLOBALS:
                raise CheckpointError(
                    f"{path}: refused: it wants to call {str(argument).replace(' ', '.')[:80]!r}, which no "
                    "Latent-CLIP checkpoint needs. Nothing was run. Do not use this file."
                )
            if opcode.name in OTHER_CLASS_OPCODES:
                raise CheckpointError(
                    f"{path}: refused: it builds objects by {opcode.name}, which no Latent-CLIP checkpoint "
                    "does. Nothing was run."
                )
    except CheckpointError:
        raise
    except Exception as error:  # pickletools raises whatever a malformed argument leads to
        raise CheckpointError(f"{path}: damaged: its pickle cannot be read: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
