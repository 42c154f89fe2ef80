"""What a search for better noise found, and how it is told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ... import lclip
from .. import draw
from . import memory

logger = logging.getLogger("latent-clip")


@dataclass(frozen=True)
class SearchOutcome:
    """What one search found. Results cover consecutive batch items: all at once, or one by one."""

    results: list[lclip.ReNOResult]
    to_raw: Callable[[Tensor], Tensor]

    def gather(self, name: str) -> Tensor:
        """One field of the results, over the whole batch, on the host's device for results."""
        return memory.to_host(self._whole(name))

    def _whole(self, name: str) -> Tensor:
        return torch.cat([getattr(result, name) for result in self.results])

    @property
    def hacked_since(self) -> list[int | None]:
        """Per item since which render its held-out reward fell while the optimised one rose on, or None."""
        return [since for result in self.results for since in result.hacked_since]

    @property
    def histories(self) -> list[list[lclip.ReNORecord]]:
        """Every render, per result."""
        return [result.history for result in self.results]

    @property
    def report(self) -> str:
        """In words how the search of every item ended, a line each, and what is odd about it."""
        said = draw.words.said
        lines = [said("item {item}: {text}", item=item, text=text) for item, text in enumerate(self.endings)]
        return "\n".join([*lines, *draw.words.cautions(self.notes)])

    @property
    def notes(self) -> list[str]:
        """Of which items the rewards chose nothing, in words."""
        told = [note for result in self.results for note in result.notes]
        return [
            draw.words.drawn("item {item}: {text}", item=item, text=text)
            for item, text in enumerate(told)
            if text
        ]

    @property
    def endings(self) -> list[str]:
        """Per item in words how its search ended."""
        return [
            result.ending(item, draw.words.said)
            for result in self.results
            for item in range(len(result.stopped))
        ]

    @property
    def best_latents(self) -> Tensor:
        return self._raw("best_latents")

    @property
    def initial_latents(self) -> Tensor:
        return self._raw("initial_latents")

    def _raw(self, name: str) -> Tensor:
        # Scaled on the device, as the host does it: a GPU divides by a number in another way than a CPU.
        return memory.to_host(self.to_raw(self._whole(name)))

    def summary(self) -> str:
        """In words what the rewards were, as a progress line keeps it; with one item how its search ended."""
        first, best = (self.gather(name).mean().item() for name in ("initial_reward", "best_reward"))
        lines = [
            draw.words.said("last search: reward {reward}", reward=f"{best:.4f}"),
            draw.words.said("at first: {reward}", reward=f"{first:.4f}"),
        ]
        return "\n".join([*lines, *(self.endings if len(self.endings) == 1 else ())])

    def log(self) -> None:
        """The same for the console, item by item, and which of them may be gaming their reward."""
        rewards = (self.gather(name).tolist() for name in ("initial_reward", "best_reward"))
        for item, (before, after) in enumerate(zip(*rewards, strict=True)):
            logger.info("ReNO: item %d went from reward %.4f to %.4f", item, before, after)
        for item, since in enumerate(self.hacked_since):
            if since is not None:
                logger.warning(
                    "ReNO: item %d may be gaming its reward: the held-out reward fell after render %d while "
                    "the optimised one rose on. Use fewer iterations, or a patience.",
                    item,
                    since,
                )
