"""Rewards in which every item of a batch has something of its own, and what a search does with them.

Such a reward is made for one batch, in its order. A search may look at a part of a batch, at many candidates
of one item, or at items that were taken out of it. It says which by `rows_of` and `of_batch`; rewards that
treat all items alike pass through both as they are.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..latents.checks import check_form
from .rewards import LatentReward, Reward, RewardSum


class PerItemReward(LatentReward):
    """A reward for one batch: row i of what it keeps belongs to item i.

    numbers: what the items are called, as in a batch that was taken out of a larger one; None: 0, 1, ...
    A subclass keeps its rows in whatever form and says how they are taken.
    """

    numbers: tuple[int, ...]

    @abstractmethod
    def take(self, rows: Sequence[int]) -> None:
        """Keep these rows only, in this order, of an object that is a copy already."""

    def of_rows(self, rows: Sequence[int]) -> PerItemReward:
        """The same reward for a batch of these rows, which may repeat."""
        taken = copy.copy(self)
        taken.take(rows)
        taken.numbers = tuple(self.numbers[row] for row in rows)
        return taken

    def of_numbers(self, numbers: Sequence[int]) -> PerItemReward:
        """The same for a batch of items that are called so. ValueError for one that it was not made for."""
        if tuple(numbers) == self.numbers:
            return self
        if len(set(self.numbers)) < len(self.numbers):
            raise ValueError(
                f"the reward {self.name!r} is for {_named(self.numbers)}, of which several are called alike: "
                "nobody can tell which row is whose. Wire the very batch that it was made for, or make it of "
                "a batch whose items have numbers of their own."
            )
        places = {number: row for row, number in enumerate(self.numbers)}
        unknown = [number for number in numbers if number not in places]
        if unknown:
            raise ValueError(
                f"the reward {self.name!r} is for {_named(self.numbers)}; got a batch with item "
                f"{unknown[0]}. Wire the batch that it was made for, or items of it."
            )
        return self.of_rows([places[number] for number in numbers])

    def require_batch(self, size: int) -> None:
        """ValueError for a batch of another length: nobody said which items it holds."""
        if size != len(self.numbers):
            raise ValueError(
                f"the reward {self.name!r} is for a batch of {len(self.numbers)}, each item with something "
                f"of its own; got a batch of {size}. Wire the batch that it was made for."
            )

    def __call__(self, latents: Tensor) -> Tensor:
        """Clean raw latents [B, C, H, W] -> [B]; see `LatentReward`. ValueError for another length."""
        latents = check_form(latents, self.channels, self.latent_space, f"the reward {self.name!r}")
        self.require_batch(len(latents))
        return super().__call__(latents)


def rows_of(reward: Reward, rows: Sequence[int]) -> Reward:
    """A reward for those who look at these rows of its batch only, or at several candidates of a row."""
    if isinstance(reward, RewardSum):
        return _mapped(reward, lambda part: rows_of(part, rows))
    own: Any = getattr(reward, "of_rows", None)
    return reward if own is None else own(rows)


def of_batch(reward: Reward, size: int, numbers: Sequence[int] | None = None) -> Reward:
    """A reward for a batch of that size, whose items are called so where that is known.

    ValueError where it has parts that are for another batch.
    """
    if isinstance(reward, RewardSum):
        return _mapped(reward, lambda part: of_batch(part, size, numbers))
    if not isinstance(reward, PerItemReward):
        return reward
    if numbers is not None:
        return reward.of_numbers(numbers)
    reward.require_batch(size)
    return reward


def looks_across(reward: Reward) -> bool:
    """Whether an item's reward depends on which others there are, so that items cannot be told apart."""
    parts = reward.rewards.values() if isinstance(reward, RewardSum) else [reward]
    return any(getattr(part, "across_items", False) for part in parts)


def in_raw_latents(reward: Reward, to_raw: Callable[[Tensor], Tensor]) -> RewardSum:
    """The same reward, part by part, for latents in a sampler's scale, which `to_raw` makes raw."""
    return RewardSum({name: _Composed(part, to_raw) for name, part in RewardSum([reward]).rewards.items()})


@dataclass(frozen=True)
class _Composed:
    reward: Reward
    to_raw: Callable[[Tensor], Tensor]

    def __call__(self, latents: Tensor) -> Tensor:
        return self.reward(self.to_raw(latents))

    def of_rows(self, rows: Sequence[int]) -> _Composed:
        return _Composed(rows_of(self.reward, rows), self.to_raw)

    @property
    def across_items(self) -> bool:
        return looks_across(self.reward)


def _mapped(reward: RewardSum, change: Callable[[Reward], Reward]) -> RewardSum:
    """The sum of the changed parts; itself where none changes."""
    parts = {name: change(part) for name, part in reward.rewards.items()}
    same = all(parts[name] is part for name, part in reward.rewards.items())
    return reward if same else RewardSum(parts)


def _named(numbers: Sequence[int]) -> str:
    """Such as "the items 0 to 15"."""
    if tuple(numbers) == tuple(range(len(numbers))):
        return f"the items 0 to {len(numbers) - 1}"
    return "the items " + ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
