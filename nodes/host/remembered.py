"""What the patches on a MODEL keep from one step to the next, put back so that every render begins alike.

A step cache (EasyCache, TeaCache and their kin) keeps its state where its author liked: in an object of the
options, in a closure, on a class, on the network. The host lets it begin anew once for each sampling, and a
search renders many times in one. So all that patches hold when the sampling begins is remembered, whoever
holds it, and put back before each render and after the last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from types import FunctionType
from typing import Any

from torch import Tensor, nn

from .holders import CONSTANT, Hung, Kind, alike, kind_of, values_of


class Remembered:
    """All that can be reached from the roots and belongs to patches, as it is now."""

    def __init__(self, roots: Iterable[Any], network: nn.Module | None = None) -> None:
        """network: the patched model; what patches have hung on its modules counts too."""
        self.roots, self.network = tuple(roots), network
        self.names: list[str] = []
        self.opaque = False
        self.memories: list[tuple[Any, Kind, Any]] = []
        self.seen: dict[int, Any] = {}
        self._walk(self.roots)
        if self.names and network is not None:
            self._walk(Hung(module) for module in network.modules())

    def __bool__(self) -> bool:
        """Whether there is any patch."""
        return bool(self.names)

    def changed(self) -> bool:
        """Whether anything is not as it was, or may be so unseen."""
        return self.opaque or any(True for _ in self._changes())

    def grown(self) -> bool:
        """Whether patches hold a tensor that they did not hold: something of a render that has been."""
        now = Remembered(self.roots, self.network).seen
        return any(isinstance(thing, Tensor) and place not in self.seen for place, thing in now.items())

    def written(self) -> bool:
        """Whether patches have written into a tensor that they held."""
        return any(isinstance(thing, Tensor) for thing, *_ in self._changes())

    def replaced(self) -> bool:
        """Whether patches held a tensor in a place that now has another: something of an earlier sampling."""
        pairs = ((before, now) for _, _, before, now in self._changes() if isinstance(before, dict))
        return any(
            isinstance(held, Tensor) and now.get(name) is not held
            for before, now in pairs
            for name, held in before.items()
        )

    def of_a_render(self) -> bool:
        """Whether what is not as it was may be of a picture: tensors, or what cannot be seen. One that only
        counts is none."""
        held = (each for thing, _, _, now in self._changes() for each in (thing, *values_of(now)))
        return self.grown() or self.opaque or any(isinstance(each, Tensor) for each in held)

    def put_back(self) -> None:
        for thing, kind, before, _ in self._changes():
            kind.write(thing, before)

    @property
    def patches(self) -> str:
        """Some of the patches by name, for an error."""
        return ", ".join(dict.fromkeys(self.names[:3]))

    def _changes(self) -> Iterator[tuple[Any, Kind, Any, Any]]:
        """What is not as it was: the thing, its kind, and its readings before and now."""
        for thing, kind, before in self.memories:
            if not alike(before, now := kind.read(thing)):
                yield thing, kind, before, now

    def _walk(self, things: Iterable[Any]) -> None:
        todo = list(things)
        while todo:
            thing = todo.pop()
            if id(thing) in self.seen or isinstance(thing, CONSTANT):
                continue
            self.seen[id(thing)] = thing  # kept alive, so that no other takes its place
            self.opaque = self.opaque or isinstance(thing, Iterator)
            if (kind := kind_of(thing)) is None:
                continue
            before = kind.read(thing)
            self.memories.append((thing, kind, before))
            todo += [*values_of(before), *kind.also(thing)]
            if isinstance(thing, FunctionType):
                self.names.append(f"{thing.__qualname__} of {_last_part(thing.__module__)}")


def roots_of(patcher: Any, *options: Any) -> list[Any]:
    """What holds the patches of a sampling: the options of its sampler and guider, and the patcher's own."""
    names = ("wrappers", "callbacks", "attachments", "injections", "object_patches")
    return [*options, *(getattr(patcher, name, None) for name in names)]


def _last_part(module: str) -> str:
    """The name of a node pack's module without the folders that it lies in."""
    return re.split(r"[/\\]", module)[-1]
