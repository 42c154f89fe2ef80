"""Which batch items a model is asked about, for rewards that have something of their own for each.

A search may ask the model about one item alone, or about many candidates of one. It writes the rows into the
model options of that call, where a patch of the model finds them; and what the items are called, where the
LATENT says it (batch_index).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...lclip.rewards.per_item import of_batch, rows_of
from ...lclip.rewards.rewards import Reward

ROWS, NUMBERS = "latent_clip_rows", "latent_clip_numbers"


def with_rows(options: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """Model options for a call that is about these rows of the batch."""
    return {**options, ROWS: tuple(rows)}


def numbered(model: Any, numbers: Sequence[int] | None) -> Any:
    """The MODEL, or a clone of it that is asked about items of these numbers."""
    if numbers is None:
        return model
    clone = model.clone()
    clone.model_options[NUMBERS] = tuple(numbers)
    return clone


def reward_of_call(reward: Reward, options: Mapping[str, Any]) -> Reward:
    """A reward for the items that a call with these model options is about."""
    if (numbers := options.get(NUMBERS)) is not None:
        reward = of_batch(reward, len(numbers), numbers)
    return reward if (rows := options.get(ROWS)) is None else rows_of(reward, rows)
