"""A linear discriminant between two small sets of embeddings, with its leave-one-out scores in closed form.

Fisher's discriminant (Fisher 1936), its covariance shrunk to a multiple of the identity:

    A = (1 - g) S + g (tr S / D) I,   w = A^-1 (mu+ - mu-),   f(e) = w . (e - (mu+ + mu-) / 2) - b

S is the covariance within the two sets, mu are their means. The shrinkage g comes from the data by the oracle
approximating formula (Chen, Wiesel, Eldar and Hero 2010), without a look at how well the sets part: a
leave-one-out figure that has chosen nothing needs no second test set.

The mean of a small set is less certain, and so farther from everything, than that of a large one: half way
between the means, new items would lean to the larger set. The bias is known (McLachlan 1992) and taken off:
b = T/2 (1/n- - 1/n+), where T is the expected squared distance, in terms of A, of an item from the mean of
its kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

REGULARIZATION = {"auto": None, "light": 0.05, "medium": 0.3, "strong": 0.9}
"""Shrinkage of the covariance by name; auto takes it from the examples."""

TINY = 1e-12  # of the embeddings' squared length: a spread below it is rounding


@dataclass(frozen=True, eq=False)
class Discriminant:
    """w and threshold in float64: what lies above the threshold is like the first set.

    margins: leave-one-out scores of the first set [N] and of the second [M], positive where an item that was
    left out falls on its own side.
    """

    direction: Tensor
    threshold: float
    shrinkage: float
    margins: tuple[Tensor, Tensor]


def discriminant(first: Tensor, second: Tensor, shrinkage: float | None = None) -> Discriminant:
    """Part two sets of embeddings [N, D] and [M, D], at least two each, linearly.

    shrinkage: 0 < g <= 1; None takes it from the data. ValueError for a shrinkage outside of that, for fewer
    than two items a side, or for items that do not differ at all.
    """
    if shrinkage is not None and not 0 < shrinkage <= 1:
        raise ValueError(f"the shrinkage is {shrinkage}; expected above 0 and at most 1, or None to choose")
    sets = [side.detach().cpu().double() for side in (first, second)]  # not every device has float64
    if min(map(len, sets)) < 2:
        raise ValueError(f"there are {len(first)} and {len(second)} items; expected at least 2 on each side")
    means = [part.mean(0) for part in sets]
    within = torch.cat([part - mean for part, mean in zip(sets, means, strict=True)])  # [N + M, D]
    gap = means[0] - means[1]
    length = torch.cat(sets).square().sum(1).mean()
    spread = within.square().sum(1).mean()
    if float(torch.maximum(spread, gap @ gap)) <= TINY * float(length):
        raise ValueError("all items have the same embedding; expected pictures that differ")
    g = oracle_shrinkage(within) if shrinkage is None else shrinkage
    # Where the items of each set agree there is no covariance to invert, and the gap itself is the direction.
    level = (spread if float(spread) > TINY * float(length) else length) / within.shape[1]
    share = (1 - g) / len(within)  # of one item's outer product in A
    matrix = share * (within.T @ within) + g * level * torch.eye(within.shape[1]).to(within)
    solved = torch.linalg.solve(matrix, torch.cat([within, gap[None]]).T).T  # A^-1 of every row
    direction = solved[-1]
    margins, bias = _left_out(within, gap, solved, (len(first), len(second)), share)
    return Discriminant(
        direction=direction,
        threshold=float(direction @ (means[0] + means[1])) / 2 + bias,
        shrinkage=g,
        margins=(margins[: len(first)], margins[len(first) :]),
    )


def oracle_shrinkage(within: Tensor) -> float:
    """The share of the identity in the covariance of centred rows [N, D] (Chen et al. 2010, equation 23)."""
    n, d = within.shape
    covariance = within.T @ within / n
    trace, squares = float(covariance.trace()), float(covariance.square().sum())
    above = (1 - 2 / d) * squares + trace**2
    below = (n + 1 - 2 / d) * (squares - trace**2 / d)
    return min(1.0, above / below) if below > 0 else 1.0


def _left_out(
    within: Tensor, gap: Tensor, solved: Tensor, sizes: tuple[int, int], share: float
) -> tuple[Tensor, float]:
    """The margin of every item by the discriminant that never saw it, and b for new items.

    No refit: without item i of a set of n, its mean moves by -d / (n - 1) and A loses share n / (n - 1) d d',
    d being the item's offset from its mean (Sherman and Morrison 1950). g, tr S and T stay as they are.
    """
    own_count = torch.tensor([sizes[0]] * sizes[0] + [sizes[1]] * sizes[1]).to(within)
    other_count = sum(sizes) - own_count
    sign = torch.tensor([1.0] * sizes[0] + [-1.0] * sizes[1]).to(within)
    k = 1 / (own_count - 1)
    lost = share * (1 + k)
    q = (within * solved[:-1]).sum(1)  # d . A^-1 d
    p = sign * (within @ solved[-1])  # d . A^-1 (own mean - other mean)
    r = gap @ solved[-1]
    moved_gap, from_middle = p - k * q, p / 2 + (1 + k / 2) * q  # each with A^-1 d
    rank_one = lost * moved_gap * from_middle / (1 - lost * q)
    margins = r / 2 + p - k * (1 + k / 2) * q + rank_one
    expected = float(((1 + k) * q / (1 - lost * q)).mean())  # T, by items that were left out
    margins = margins + expected / 2 * (k - 1 / other_count)
    return margins, expected / 2 * (1 / sizes[1] - 1 / sizes[0])
