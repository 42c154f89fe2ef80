"""Which concept a CLIP takes for which, by labelled examples, and shares that are corrected for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..latents.items import is_whole
from ..statistics import RESAMPLES
from .probabilities import check_probabilities, clear_winners

APART = 0.05
"""The least singular value of a confusion table by which shares are corrected: 1 where no concept is taken
for another, 0 where one is not told from the others."""
DRAWN = RESAMPLES // 4
"""How often a corrected share is drawn anew: each time a table is inverted."""


def confusion(
    probabilities: Tensor,
    labels: Sequence[int],
    margin: float = 0.1,
    names: Sequence[str] | None = None,
    counts: bool = False,
) -> Tensor:
    """How often each concept is taken for each, from items whose truth is known: [L, L], rows sum to one.

    probabilities: [B, L]; labels: the true concept of each item; names: of the concepts, for errors. counts:
    numbers of items in the place of shares, whole ones, by which intervals know how few they are.
    Row t holds what is seen where t is true, among the clear. ValueError where a concept has no clear item.
    """
    check_probabilities(probabilities)
    count, labels = probabilities.shape[1], [_number(label) for label in labels]
    wrong = [label for label in labels if not is_whole(label) or not 0 <= label < count]
    if wrong:
        raise ValueError(f"the label {wrong[0]} is no concept; expected a number from 0 to {count - 1}")
    if len(labels) != len(probabilities):
        raise ValueError(f"there are {len(labels)} labels for {len(probabilities)} items; expected one each")
    table = torch.zeros(count, count, dtype=torch.int64)
    for truth, seen in zip(labels, clear_winners(probabilities.cpu(), margin), strict=True):
        if seen >= 0:
            table[truth, seen] += 1
    if bool((table.sum(1) == 0).any()):
        missing = (table.sum(1) == 0).nonzero().flatten().tolist()
        told = [names[place] for place in missing] if names else missing
        raise ValueError(f"concepts {told} have no clear example; expected at least one of each")
    return table if counts else _rows(table)


def tells_apart(table: Tensor) -> bool:
    """Whether shares can be corrected by a confusion table [L, L] at all."""
    return float(torch.linalg.svdvals(_rows(table.detach()))[-1]) >= APART


def _rows(table: Tensor) -> Tensor:
    """A table's rows as shares, float64, whether it holds shares or counts."""
    rows = table.cpu().double()
    return rows if table.is_floating_point() else rows / rows.sum(-1, keepdim=True)


def _number(label: Any) -> Any:
    """Python's own number of a tensor's."""
    return label.item() if isinstance(label, Tensor) else label


def checked_confusion(table: Any, count: int) -> Tensor:
    """A confusion table of shares or counts, [L, L]. ValueError for what is none of so many concepts, or for
    one that corrects nothing."""
    table = torch.as_tensor(table).detach().cpu()
    rows = _rows(table)
    whole = bool(torch.isfinite(rows).all()) and bool((rows >= 0).all())
    if rows.shape != (count, count) or not whole or not bool((rows.sum(1) - 1).abs().max() <= 1e-3):
        raise ValueError(
            f"confusion is no table of {count} x {count} shares whose rows sum to one; take what "
            "`confusion` gives for these concepts"
        )
    if not tells_apart(rows):
        raise ValueError(
            f"the confusion table is {rows.tolist()}: concepts are taken for each other so much that nothing "
            "can be corrected by it. Leave it out, or word the concepts otherwise"
        )
    return table


def corrected(seen: Sequence[float], table: Tensor) -> tuple[float, ...]:
    """Shares s' with s = C^T s' (adjusted count, Forman 2008), held to 0..1 and to a sum of one.

    seen: hard shares s; table: C, as `checked_confusion` gives it.
    """
    return tuple(float(x) for x in _solved(np.array(seen), _rows(table).numpy()))


def drawn_corrected(seen: Sequence[float], clear: int, table: Tensor, seed: int = 0) -> np.ndarray:
    """The same by a bootstrap (Efron 1979) over so many clear items, and over the examples of a table of
    counts; a table of shares is taken as exact. -> [draws, L]"""
    draws = np.random.default_rng(seed)
    shares = draws.multinomial(clear, seen, size=DRAWN) / clear
    rows = np.broadcast_to(_rows(table).numpy(), (DRAWN, len(seen), len(seen)))
    if not table.is_floating_point():
        numbers = table.sum(1).tolist()
        drawn = [draws.multinomial(n, row, size=DRAWN) / n for n, row in zip(numbers, rows[0], strict=True)]
        rows = np.stack(drawn, 1)
    return _solved(shares, rows)


def _solved(seen: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """[..., L] and [..., L, L] -> [..., L]; the nearest where no shares give these exactly."""
    solved = np.linalg.pinv(np.swapaxes(rows, -1, -2)) @ seen[..., None]
    held = np.clip(solved[..., 0], 0, None)
    total = held.sum(-1, keepdims=True)
    return np.where(total > 0, held / np.where(total > 0, total, 1), 1 / seen.shape[-1])
