"""What can hold the state of a patch, and how each kind of holder is read and written.

Only what belongs to patches is looked into: nothing of the host, of the libraries below it, or of this pack.
"""

from __future__ import annotations

import builtins
import dis
import random
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

OWN = __name__.removesuffix(".nodes.host.holders")
OTHERS = sys.stdlib_module_names | {
    "comfy", "comfy_api", "comfy_execution", "comfy_aimdo", "comfy_kitchen", "torch", "torchvision", "numpy",
    "PIL", "tqdm", "aiohttp", "app", "execution", "folder_paths", "latent_preview", "nodes", "server",
}  # fmt: skip
"""Packages whose objects are no patches, nor the state of one."""
MOST_BYTES = 2**25
"""Larger tensors are weights rather than something that changes from step to step."""


class Kind(NamedTuple):
    """How one kind of thing is read, to a dictionary or list, and written; and what else it refers to."""

    read: Callable[[Any], Any]
    write: Callable[[Any, Any], None]
    also: Callable[[Any], Iterable[Any]] = lambda thing: ()


class Hung:
    """What patches have hung on a module of the network."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module


def kind_of(thing: Any) -> Kind | None:
    """How a thing is read and written, or None where it holds nothing, or nothing of a patch."""
    for types, kind in _KINDS.items():
        if isinstance(thing, types):
            return kind if isinstance(thing, _PLAIN) or _belongs_to_a_patch(thing) else None
    return _INSTANCE if _belongs_to_a_patch(type(thing)) else None


def _belongs_to_a_patch(thing: Any) -> bool:
    """Whether a function, class or module is neither of the host, of the libraries below it, nor of this
    pack."""
    if isinstance(thing, ModuleType):
        names = [thing.__name__]
    else:
        family = thing.__mro__[:-1] if isinstance(thing, type) else [thing]
        names = [getattr(member, "__module__", None) or "" for member in family]
    strange = [name.split(".")[0] not in OTHERS and not f"{name}.".startswith(f"{OWN}.") for name in names]
    return all(strange) and bool(strange)


def values_of(before: Any) -> Iterable[Any]:
    """What a reading refers to."""
    if isinstance(before, Tensor):
        return ()
    return before.values() if isinstance(before, dict) else before


def alike(before: Any, now: Any) -> bool:
    """Whether two readings say the same: the same objects, or equal tensors."""
    if isinstance(before, Tensor):
        return torch.equal(before, now)
    if isinstance(before, dict) and before.keys() != now.keys():
        return False
    if isinstance(before, dict):
        before, now = list(before.values()), [now[key] for key in before]
    return len(before) == len(now) and all(map(_same, before, now))


def _same(a: Any, b: Any) -> bool:
    return a is b or (isinstance(a, CONSTANT) and type(a) is type(b) and a == b)


def _refill(held: Any, before: Any) -> None:
    held.clear()
    (held.update if isinstance(held, (dict, set)) else held.extend)(before)


def _read_tensor(held: Tensor) -> Any:
    if isinstance(held, nn.Parameter) or held.numel() * held.element_size() > MOST_BYTES:
        return ()
    return held.detach().clone()


def _write_tensor(held: Tensor, before: Tensor) -> None:
    with torch.inference_mode(held.is_inference()), torch.no_grad():
        held.copy_(before)


def _read_function(held: FunctionType) -> dict[Any, Any]:
    """Its closure, by place; and by name what it reads and writes of its module."""
    filled = {place: cell for place, cell in enumerate(held.__closure__ or ()) if _is_filled(cell)}
    shared = {
        name: held.__globals__[name] for name in _global_names(held.__code__) if name in held.__globals__
    }
    return {**{place: cell.cell_contents for place, cell in filled.items()}, **shared}


def _write_function(held: FunctionType, before: dict[Any, Any]) -> None:
    for place, cell in enumerate(held.__closure__ or ()):
        if place in before:
            cell.cell_contents = before[place]
    for name in _global_names(held.__code__):
        _put(held.__globals__, name, before)


def _global_names(code: CodeType) -> Iterator[str]:
    """The global names of a function, and of the functions within it; not those of builtins."""
    for step in dis.get_instructions(code):
        if step.opname.endswith("_GLOBAL") and not hasattr(builtins, step.argval):
            yield step.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _is_filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _read_class(held: type) -> dict[str, Any]:
    return {name: value for name, value in vars(held).items() if _is_state(name, value)}


def _write_class(held: type, before: dict[str, Any]) -> None:
    for name in [name for name in _read_class(held) if name not in before]:
        delattr(held, name)
    for name, value in before.items():
        setattr(held, name, value)


def _is_state(name: str, value: Any) -> bool:
    return not (name.startswith("__") or callable(value) or hasattr(value, "__get__"))


def _methods(held: type) -> list[Any]:
    return [getattr(value, "__func__", value) for value in vars(held).values()]


def _read_module(held: ModuleType) -> dict[str, Any]:
    return {name: value for name, value in vars(held).items() if not name.startswith("__")}


def _write_names(held: Any, before: dict[str, Any]) -> None:
    for name in {**vars(held), **before}:
        if not name.startswith("__"):
            _put(vars(held), name, before)


def _read_instance(held: Any) -> dict[str, Any]:
    slots = [name for kind in type(held).__mro__ for name in getattr(kind, "__slots__", ())]
    return {
        **{name: getattr(held, name) for name in slots if not name.startswith("__") and hasattr(held, name)},
        **getattr(held, "__dict__", {}),
    }


def _write_instance(held: Any, before: dict[str, Any]) -> None:
    for name in _read_instance(held).keys() - before.keys():
        object.__delattr__(held, name)
    for name, value in before.items():
        object.__setattr__(held, name, value)


def _read_hung(held: Hung) -> dict[str, Any]:
    if type(held.module).__module__.startswith("comfy.ops"):
        return {}  # the host keeps its own books on these
    return {name: value for name, value in vars(held.module).items() if name not in _NETWORK}


def _write_hung(held: Hung, before: dict[str, Any]) -> None:
    for name in {**_read_hung(held), **before}:
        _put(vars(held.module), name, before)


def _read_random(held: random.Random) -> list[Any]:
    version, numbers, gauss = held.getstate()
    return [version, gauss, *numbers]


def _write_random(held: random.Random, before: list[Any]) -> None:
    version, gauss, *numbers = before
    held.setstate((version, tuple(numbers), gauss))


def _put(names: dict[str, Any], name: str, before: dict[Any, Any]) -> None:
    if name in before:
        names[name] = before[name]
    else:
        names.pop(name, None)


CONSTANT = (str, bytes, int, float, complex, type(None))
_NETWORK = frozenset(vars(nn.Module()))
_INSTANCE = Kind(_read_instance, _write_instance, lambda held: [type(held)])
_FIXED = Kind(list, lambda held, before: None)
_PLAIN = (
    *(dict, list, deque, set, tuple, frozenset, Tensor, MethodType, partial, SimpleNamespace),
    *(torch.Generator, random.Random, Hung),
)
_KINDS: dict[Any, Kind] = {
    dict: Kind(dict, _refill),
    (list, deque): Kind(list, _refill),
    set: Kind(list, _refill),
    (tuple, frozenset): _FIXED,
    Tensor: Kind(_read_tensor, _write_tensor),
    MethodType: Kind(lambda held: [held.__self__, held.__func__], lambda held, before: None),
    partial: Kind(lambda held: [held.func, held.args, held.keywords], lambda held, before: None),
    FunctionType: Kind(
        _read_function,
        _write_function,
        lambda held: [vars(held), held.__defaults__, held.__kwdefaults__],
    ),
    type: Kind(_read_class, _write_class, lambda held: [*_methods(held), *held.__mro__[1:]]),
    ModuleType: Kind(_read_module, _write_names),
    SimpleNamespace: Kind(_read_instance, _write_instance),
    torch.Generator: Kind(lambda held: held.get_state(), lambda held, before: held.set_state(before)),
    random.Random: Kind(_read_random, _write_random),
    Hung: Kind(_read_hung, _write_hung),
}
