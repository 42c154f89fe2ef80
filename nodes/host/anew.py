"""Renders, passes and cells that each begin as the first did, whatever patches keep: one memory, three rules.

Nothing is put back before it is known that patches keep something of a picture. When that is known differs:
a search asks for its first render twice, a race looks after each pass, a map after its first cell
(`kept_steps`), before which it cannot know and takes cells one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .remembered import Remembered

logger = logging.getLogger("latent-clip")


class Anew:
    """What patches hold at first, and whether it is put back before each of what is run."""

    def __init__(self, roots: Iterable[Any], network: nn.Module) -> None:
        self.kept = Remembered(roots, network)
        self.needed = False

    def begin(self) -> None:
        """Before each: leave what patches hold as it was found, where that matters."""
        if self.needed:
            self.kept.put_back()

    def close(self) -> None:
        """After the last: the same, for whoever samples next."""
        self.begin()


class RendersAnew(Anew):
    """Runs renders of a search so that each begins as the first did.

    Where patches keep nothing of a render, nothing is put back: one that counts calls goes on counting.
    """

    def __init__(self, roots: Iterable[Any], network: nn.Module) -> None:
        super().__init__(roots, network)
        self.first = bool(self.kept)

    def __call__(self, render: Callable[[], Tensor]) -> Tensor:
        """One render. ValueError where the same one twice gives different latents whatever is put back."""
        if self.first:
            self.first = False
            return self._first(render)
        self.begin()
        return render()

    def _first(self, render: Callable[[], Tensor]) -> Tensor:
        found = render()
        if not self.kept.changed():
            return found
        seen = found.detach()
        del found  # with its graph, before another is built
        for needed in dict.fromkeys((self.kept.grown(), True)):
            self.needed = needed
            again = self(render)
            if not _differ(again, seen):
                return again
            del again
        raise ValueError(
            f"The model carries a patch that remembers earlier renders ({self.kept.patches}), and it cannot "
            "be made to begin anew: the same noise gave different latents twice. A noise search compares "
            "renders, so each must begin alike: take out the node that patches the model so, such as a step "
            "cache."
        )


class PassesAnew(Anew):
    """Passes of the model in a race. A step cache compares a batch with the one before, which there holds
    other rows, so it must not see it. ValueError where a patch cannot be made to begin anew."""

    def __init__(self, roots: Iterable[Any], network: nn.Module) -> None:
        super().__init__(roots, network)
        if self.kept.opaque and self.kept:
            raise ValueError(
                f"The model carries a patch that may remember earlier steps ({self.kept.patches}), and it "
                "cannot be made to begin anew; in a race the batch shrinks from step to step. Take out the "
                "node that patches the model so, such as a step cache."
            )

    def __call__(self, ask: Callable[[], Tensor]) -> Tensor:
        """One pass."""
        self.begin()
        found = ask()
        if not self.needed and bool(self.kept) and (self.kept.grown() or self.kept.written()):
            self.needed = True
            self._doubt()
        return found

    def _doubt(self) -> None:
        if self.kept.replaced():
            logger.warning(
                "Race: a patch on the model (%s) held something of an earlier sampling when the race began. "
                "If it is a step cache that does not begin anew by itself, take it out.",
                self.kept.patches,
            )


def _differ(a: Tensor, b: Tensor) -> bool:
    """Whether latents are not the same, but for the order in which a GPU sums."""
    if torch.equal(a, b):
        return False
    error, size = (part.detach().float().nan_to_num().norm() for part in (a - b, b))
    return a.device.type == "cpu" or bool(error > 1e-3 * size)
