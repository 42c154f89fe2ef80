"""A pickle's instructions, followed by a machine that can call nothing.

It knows numbers, texts, lists, dictionaries and tensors, which is all that checkpoints and latents need.
Functions and classes are names to it; the few that PyTorch writes stand for a tensor, a kind of storage or a
dictionary, and any other name ends the reading before anything is done. Nothing of Python's or PyTorch's own
unpicklers takes part, so nothing depends on what other programs in the process have allowed these.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor, UntypedStorage

from ..errors import CheckpointError

DTYPES = {
    "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16, "Double": torch.float64,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool,
}  # fmt: skip
STORAGES = {f"torch {name}Storage": dtype for name, dtype in DTYPES.items()}
# Newer kinds of numbers have no storage of their own: bytes, and the kind with the tensor. Of one byte each,
# they lie right wherever they lie, and have no byte order.
STORAGES["torch.storage UntypedStorage"] = torch.uint8
BYTE_KINDS = {
    f"torch {name}": getattr(torch, name)
    for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
    if hasattr(torch, name)  # not every PyTorch has them all
}
BYTES = "torch._utils _rebuild_tensor_v3"
# A tensor that was to be trained; it is the tensor, without what else was noted on it.
PARAMETERS = ("torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state")
# Numbers that do no harm, and that nothing here reads.
UNREAD = frozenset(
    ("torch uint16", "torch uint32", "torch uint64", "torch ComplexFloatStorage",
     "torch ComplexDoubleStorage", "torch QInt8Storage", "torch QUInt8Storage", "torch QInt32Storage",
     "torch._utils _rebuild_sparse_tensor", "torch._utils _rebuild_qtensor")
)  # fmt: skip
TENSORS = ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor")
DICTIONARY = "collections OrderedDict"
# Numpy's scalars, which only an optimizer's state holds, are never built.
NEVER_BUILT = (
    "_codecs encode",
    "numpy dtype",
    "numpy.core.multiarray scalar",
    "numpy._core.multiarray scalar",
)
ALLOWED = frozenset((*STORAGES, *BYTE_KINDS, *TENSORS, BYTES, *PARAMETERS, DICTIONARY, *NEVER_BUILT))
VALUES = frozenset(
    ("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
     "SHORT_BINSTRING", "BINSTRING", "SHORT_BINBYTES", "BINBYTES")
)  # fmt: skip
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


@dataclass(frozen=True)
class Claim:
    """A storage as the instructions ask for it: its name in the file, and so many numbers of a type."""

    key: str
    dtype: torch.dtype
    count: int


StorageOf = Callable[[Claim], "UntypedStorage | None"]
"""Gives a claim's bytes, or None where tensors are not wanted yet. Raises CheckpointError."""


def follow(instructions: BinaryIO, storage_of: StorageOf) -> Any:
    """What one pickle holds; the stream is left behind it.

    Raises CheckpointError for what is refused, and whatever malformed instructions lead to.
    """
    machine = _Machine(storage_of)
    for opcode, argument, _ in pickletools.genops(instructions):
        if opcode.name == "STOP":
            break
        machine.step(opcode.name, argument)
    return machine.pop()


@dataclass(frozen=True)
class _Name:
    """A function or class that was named."""

    name: str


class _Unbuilt:
    """What was not built."""


@dataclass(frozen=True)
class _Storage:
    dtype: torch.dtype
    count: int
    content: UntypedStorage | None


class _Machine:
    def __init__(self, storage_of: StorageOf) -> None:
        self.storage_of = storage_of
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # stacks under the marks that are set
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in VALUES:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif (action := getattr(self, f"do_{name.lower()}", None)) is not None:
            action(argument)
        else:
            raise CheckpointError(
                f"refused: it builds objects by {name}, which no Latent-CLIP checkpoint does. Nothing was "
                "run."
            )

    def pop(self) -> Any:
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        found, self.stack = self.stack, self.below.pop()
        return found

    def do_proto(self, _: int) -> None: ...

    def do_frame(self, _: int) -> None: ...

    def do_mark(self, _: None) -> None:
        self.below.append(self.stack)
        self.stack = []

    def do_binput(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    do_long_binput = do_binput

    def do_memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_binget(self, place: int) -> None:
        self.stack.append(self.memo[place])

    do_long_binget = do_binget

    def do_empty_list(self, _: None) -> None:
        self.stack.append([])

    def do_empty_dict(self, _: None) -> None:
        self.stack.append({})

    def do_tuple(self, _: None) -> None:
        values = self.since_mark()
        self.stack.append(tuple(values))

    def do_tuple1(self, _: None) -> None:
        self.stack[-1:] = [tuple(self.stack[-1:])]

    def do_tuple2(self, _: None) -> None:
        self.stack[-2:] = [tuple(self.stack[-2:])]

    def do_tuple3(self, _: None) -> None:
        self.stack[-3:] = [tuple(self.stack[-3:])]

    def do_append(self, _: None) -> None:
        self._extend([self.pop()])

    def do_appends(self, _: None) -> None:
        self._extend(self.since_mark())

    def _extend(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise CheckpointError("damaged: it adds to something that is no list")
        self.stack[-1].extend(values)

    def do_setitem(self, _: None) -> None:
        value, key = self.pop(), self.pop()
        _enter(self.stack[-1], [(key, value)])

    def do_setitems(self, _: None) -> None:
        values = self.since_mark()
        _enter(self.stack[-1], list(zip(values[::2], values[1::2], strict=True)))

    def do_global(self, argument: str) -> None:
        if argument in UNREAD:
            raise CheckpointError(
                f"refused: it holds numbers of a kind that is not read, {_dotted(argument)}. Load it "
                "with torch.load(..., weights_only=True) and save them as float32. Nothing was run."
            )
        if argument not in ALLOWED:
            raise CheckpointError(
                f"refused: it wants to call {_dotted(argument)[:80]!r}, which no Latent-CLIP "
                "checkpoint needs. Nothing was run. Do not use this file."
            )
        self.stack.append(_Name(argument))

    def do_stack_global(self, _: None) -> None:
        name, module = self.pop(), self.pop()
        self.do_global(f"{module} {name}")

    def do_reduce(self, _: None) -> None:
        arguments, function = self.pop(), self.pop()
        name = function.name if isinstance(function, _Name) else ""
        if name in NEVER_BUILT:
            self.stack.append(_Unbuilt())
        elif name in TENSORS:
            self.stack.append(_tensor(*arguments[:4]))
        elif name == BYTES:
            self.stack.append(_tensor(_of_kind(arguments[0], arguments[6]), *arguments[1:4]))
        elif name in PARAMETERS:
            self.stack.append(_parameter(arguments[0]))
        elif name == DICTIONARY:
            found: dict[Any, Any] = {}
            _enter(found, *arguments)
            self.stack.append(found)
        else:
            raise CheckpointError("refused: it calls what is no function of a checkpoint. Nothing was run.")

    def do_build(self, _: None) -> None:
        """A state for the last object: those of dictionaries (their versions) and of scalars are left out."""
        self.pop()
        if not isinstance(self.stack[-1], (dict, _Unbuilt)):
            raise CheckpointError("refused: it changes an object's state. Nothing was run.")

    def do_binpersid(self, _: None) -> None:
        """("storage", its kind, its key, its device, how many numbers), and in old files a part of it."""
        what, kind, key, _device, count, *part = self.pop()
        dtype = STORAGES.get(kind.name) if isinstance(kind, _Name) else None
        if what != "storage" or dtype is None or not isinstance(key, str):
            raise CheckpointError(
                "refused: it asks for something else than a tensor's numbers. Nothing was run."
            )
        _whole_numbers(count)
        content = self.storage_of(Claim(key, dtype, count))
        first, number = (part[0][1], part[0][2]) if part and part[0] is not None else (0, count)
        _whole_numbers(first, number)
        if first + number > count:
            raise CheckpointError("damaged: a part of a storage reaches past its end")
        if content is not None and (first, number) != (0, count):
            content = content[first * dtype.itemsize : (first + number) * dtype.itemsize]
        self.stack.append(_Storage(dtype, number, content))


def _dotted(name: str) -> str:
    return name.replace(" ", ".")


def _enter(target: Any, pairs: Any = ()) -> None:
    """Add to a dictionary. Keys are texts or whole numbers: a deep tuple could take for ever to compare."""
    if type(target) is not dict:
        raise CheckpointError("damaged: it adds to something that is no dictionary")
    for key, value in pairs:
        if type(key) not in (str, int):
            raise CheckpointError(f"damaged: a key is a {type(key).__name__}; expected a text or a number")
        target[key] = value


def _tensor(storage: Any, offset: Any, size: Any, stride: Any) -> Tensor | _Unbuilt:
    if not isinstance(storage, _Storage) or type(size) is not tuple or type(stride) is not tuple:
        raise CheckpointError("damaged: a tensor is described by something else than its shape")
    _whole_numbers(offset, *size, *stride)
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
    if 0 not in size and last >= storage.count:
        raise CheckpointError(f"damaged: a tensor of shape {list(size)} reaches past its numbers")
    if storage.content is None:
        return _Unbuilt()
    return torch.empty(0, dtype=storage.dtype).set_(storage.content, offset, size, stride)


def _of_kind(storage: Any, kind: Any) -> _Storage:
    """A storage of bytes as one of the kinds of one byte."""
    dtype = BYTE_KINDS.get(kind.name) if isinstance(kind, _Name) else None
    if dtype is None or not isinstance(storage, _Storage) or storage.dtype.itemsize != 1:
        raise CheckpointError("damaged: a tensor's numbers are of another kind than its storage")
    return _Storage(dtype, storage.count, storage.content)


def _parameter(data: Any) -> Tensor | _Unbuilt:
    if not isinstance(data, (Tensor, _Unbuilt)):
        raise CheckpointError("damaged: a parameter is no tensor")
    return data


def _whole_numbers(*values: Any) -> None:
    if any(type(value) is not int or value < 0 for value in values):
        raise CheckpointError("damaged: a shape or a place is no whole number")
