"""Reading PyTorch's files: zip archives, and the layout of before PyTorch 1.6. Nothing in them is run.

Their pickles are followed by `lclip.checkpoints.instructions`, and the tensors are parts of the mapped file.
"""

from __future__ import annotations

import mmap
import struct
import sys
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, UntypedStorage

from ..errors import CheckpointError
from .instructions import Claim, follow

# The instructions alone, without the tensors; the released files have about 0.3 MB.
MAX_PICKLE_BYTES = 8 << 20
# Of the layout before 1.6: a number to know it by, and its version.
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
NOT_OURS = "It is a pickle that torch.save did not write; expected a file of torch.save."
TAR_MARK = b"ustar"  # at 257: the layout of before PyTorch 0.1.10


def read_pickle(path: Path, content: bytes | None = None, mapped: list[np.memmap] | None = None) -> Any:
    """The content of a file of torch.save; its tensors are parts of the mapped file. Raises CheckpointError.

    content: the file's bytes where it is no file of its own, as in an archive; path then only names it.
    mapped: is given the mapped file, for `let_go`.
    """
    try:
        numbers = (
            np.memmap(path, np.uint8, "c") if content is None else np.frombuffer(bytearray(content), np.uint8)
        )
        if mapped is not None and isinstance(numbers, np.memmap):
            mapped.append(numbers)
        return _read(numbers, path.open("rb") if content is None else BytesIO(content))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except MemoryError as error:
        raise CheckpointError(f"{path}: damaged: it asks for more memory than there is") from error
    except Exception as error:  # malformed instructions can make anything fail
        raise CheckpointError(
            f"{path}: damaged or truncated: {_first_line(error)}. Download it again and compare its size."
        ) from error


def let_go(mapped: np.memmap, tensor: Tensor) -> None:
    """Take what a tensor has read of a mapped file out of memory; the file has it if it is read again."""
    start = tensor.untyped_storage().data_ptr() - mapped.ctypes.data
    end = min(start + tensor.untyped_storage().nbytes(), mapped.nbytes)
    first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    whole: Any = mapped.base
    if start >= 0 and first < last and hasattr(whole, "madvise"):  # Windows has no such thing
        whole.madvise(mmap.MADV_DONTNEED, first, last - first)


def is_old_pickle(start: bytes) -> bool:
    """Whether a file that begins so may be one of PyTorch before 1.6."""
    return start[:1] == b"\x80"


def _read(numbers: np.ndarray, file: BinaryIO) -> Any:
    with file:
        storage = torch.from_numpy(numbers).untyped_storage()
        if is_old_pickle(numbers[:1].tobytes()):
            return _OldFile(storage, BytesIO(numbers[:MAX_PICKLE_BYTES].tobytes())).read()
        if numbers[257:262].tobytes() == TAR_MARK:
            raise CheckpointError(
                "a tar archive, perhaps of a PyTorch before 0.1.10; expected what torch.save writes today. "
                "Load it with an old PyTorch and save it again"
            )
        return _ZipFile(storage, file).read()


class _ZipFile:
    """The layout since PyTorch 1.6: uncompressed entries, one with the instructions, one for each storage."""

    def __init__(self, whole: UntypedStorage, file: BinaryIO) -> None:
        self.whole, self.file = whole, file
        self.storages: dict[str, UntypedStorage] = {}

    def read(self) -> Any:
        with zipfile.ZipFile(self.file) as archive:
            self.entries = {entry.filename: entry for entry in archive.infolist()}
            pickles = [name for name in self.entries if name.endswith("data.pkl")]
            if len(pickles) != 1 or len(self.entries) != len(archive.infolist()):
                raise CheckpointError(f"not a PyTorch checkpoint: expected one data.pkl, got {len(pickles)}")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in self.entries.values()):
                raise CheckpointError("not written by PyTorch: its entries are compressed")
            if (size := self.entries[pickles[0]].file_size) > MAX_PICKLE_BYTES:
                raise CheckpointError(f"data.pkl has {size} bytes; expected at most {MAX_PICKLE_BYTES}")
            self.folder = pickles[0].removesuffix("data.pkl")
            order = f"{self.folder}byteorder"  # only newer files say it
            self.swapped = order in self.entries and archive.read(order).decode() != sys.byteorder
            return follow(BytesIO(archive.read(pickles[0])), self.storage)

    def storage(self, claim: Claim) -> UntypedStorage:
        if claim.key not in self.storages:
            entry = self.entries.get(f"{self.folder}data/{claim.key}")
            if entry is None:
                raise CheckpointError(f"damaged: the numbers of a tensor, data/{claim.key[:20]}, are missing")
            self.file.seek(entry.header_offset)
            name, extra = struct.unpack("<26x2H", self.file.read(30))
            start = entry.header_offset + 30 + name + extra
            self.storages[claim.key] = _part(self.whole, start, entry.file_size, claim, self.swapped)
        return self.storages[claim.key]


class _OldFile:
    """The layout before PyTorch 1.6: five pickles, then the storages one after the other."""

    def __init__(self, whole: UntypedStorage, instructions: BinaryIO) -> None:
        self.whole, self.instructions = whole, instructions
        self.claims: dict[str, Claim] = {}
        self.storages: dict[str, UntypedStorage] = {}

    def read(self) -> Any:
        try:
            magic = follow(self.instructions, self.refuse)
        except CheckpointError as error:
            raise CheckpointError(f"{error} {NOT_OURS}") from error
        if magic != MAGIC:
            raise CheckpointError(NOT_OURS)
        protocol, system = (follow(self.instructions, self.refuse) for _ in range(2))
        if protocol != PROTOCOL or not isinstance(system, dict):
            raise CheckpointError(f"its layout is of version {protocol!r:.20}; expected {PROTOCOL}")
        self.swapped = (sys.byteorder == "little") != bool(system.get("little_endian", True))
        start = self.instructions.tell()
        follow(self.instructions, self.note)  # first to know where the storages begin
        keys = follow(self.instructions, self.refuse)
        self._find(keys, self.instructions.tell())
        self.instructions.seek(start)
        return follow(self.instructions, lambda claim: self.storages[claim.key])

    def refuse(self, _: Claim) -> None:
        raise CheckpointError("damaged: tensors where none belong")

    def note(self, claim: Claim) -> None:
        if self.claims.setdefault(claim.key, claim) != claim:
            raise CheckpointError("damaged: it describes a storage in two ways")

    def _find(self, keys: Any, place: int) -> None:
        """Every storage is its length, in 8 bytes, and its numbers."""
        for key in keys:
            claim = self.claims[key]
            order = "big" if (sys.byteorder == "big") != self.swapped else "little"
            count = int.from_bytes(bytes(self.whole[place : place + 8]), order)
            if count != claim.count:
                raise CheckpointError(f"damaged: a storage of {count} numbers; expected {claim.count}")
            size = count * claim.dtype.itemsize
            self.storages[key] = _part(self.whole, place + 8, size, claim, self.swapped)
            place += 8 + size


def _part(whole: UntypedStorage, start: int, size: int, claim: Claim, swapped: bool) -> UntypedStorage:
    """The bytes of a claim: a part of the mapped file; a copy where they lie oddly, or in the other order."""
    wanted = claim.count * claim.dtype.itemsize
    if wanted > size or start + wanted > whole.nbytes():
        raise CheckpointError(f"damaged or truncated: a tensor's {wanted} bytes are not all there")
    found = whole[start : start + wanted]
    if swapped or start % claim.dtype.itemsize:
        found = found.clone()
    if swapped and claim.dtype.itemsize > 1:
        found.byteswap(claim.dtype)
    return found


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
