"""Picking from a batch: the best, all that are good enough, or the best that differ."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..latents.items import check_k
from ..scoring import as_ranked, too_many, top_k

logger = logging.getLogger("latent-clip")


@dataclass(frozen=True)
class Pick:
    """Which items of a batch were picked, and the others."""

    kept: list[int]
    """Best first, or in the order of the batch; with variety in the order in which they were chosen."""
    rest: list[int]
    """In the order of the batch."""


def pick(
    scores: Tensor,
    k: int | None = None,
    at_least: float | None = None,
    sort: bool = True,
    variety: float = 0.0,
    embeddings: Tensor | None = None,
) -> Pick:
    """Pick items by their scores: the k best, all that reach a value, or at most k of those.

    scores: [B], higher is better; NaN is picked only by a k that nothing else fills. at_least: may leave
    nothing. sort: best first; False keeps the order of the batch. variety: from 0, the scores alone, to 1:
    the best one, then always the one that is least like those picked; it needs embeddings [B, D], and an item
    whose embedding is not finite comes after those that have one.
    """
    if k is None and at_least is None:
        raise ValueError("neither k nor at_least is given; say how many to keep, or from which score on")
    if k is not None:
        k = check_k(k, len(scores))
    if at_least is not None and not math.isfinite(at_least):
        raise ValueError(f"at_least is {at_least}; expected a finite number as threshold, such as 0.3")
    if not 0 <= variety <= 1:
        raise ValueError(f"variety is {variety}; expected 0 (the best) to 1 (the most different)")
    good = _good(scores, at_least)
    number = len(good) if k is None else k
    if at_least is None and (text := too_many(number, len(good))) is not None:
        logger.warning("%s", text)
    kept = [] if not good else [good[i] for i in top_k(scores[good], min(number, len(good)))[0]]
    if variety and len(good) > 1:
        if embeddings is None:
            raise ValueError(f"variety is {variety}, which needs the items' embeddings; got none")
        if embeddings.ndim != 2 or len(embeddings) != len(scores):
            raise ValueError(
                f"the embeddings have shape {list(embeddings.shape)}; expected one for each of the "
                f"{len(scores)} items, [{len(scores)}, D]"
            )
        known = ~scores.isnan().cpu() & torch.isfinite(embeddings).all(1).cpu()
        numbers = [index for index in good if known[index]]
        varied = []
        if numbers:
            order = marginal_relevance(scores[numbers], embeddings[numbers], variety, len(kept))
            varied = [numbers[i] for i in order]
        others = [index for index in kept if index not in varied]
        kept = varied + others[: len(kept) - len(varied)]
    if not sort:
        kept = sorted(kept)
    chosen = set(kept)
    return Pick(kept, [index for index in range(len(scores)) if index not in chosen])


def _good(scores: Tensor, at_least: float | None) -> list[int]:
    """The items that may be picked. ValueError where no score is a number."""
    top_k(scores, 1)  # its checks
    if at_least is None:
        return list(range(len(scores)))
    return (scores >= at_least).nonzero().flatten().tolist()


def marginal_relevance(scores: Tensor, embeddings: Tensor, variety: float, number: int) -> list[int]:
    """Maximal marginal relevance (Carbonell and Goldstein 1998): the best, then greedily those that differ.

    Each next item has the largest (1 - variety) x score - variety x its largest cosine to those picked.
    Deviation: scores and cosines are each brought to 0..1 over the batch, as they have no scale in common.
    scores: [B], no NaN; an infinite one is beyond all others. embeddings: [B, D] of length 1. -> `number`
    indices in the order picked.
    """
    cosine = (embeddings @ embeddings.T).cpu().double()
    apart = ~torch.eye(len(scores), dtype=torch.bool)
    worth, likeness = _unit(_finite(as_ranked(scores.cpu().double()))), torch.zeros_like(cosine)
    likeness[apart] = _unit(cosine[apart])
    picked = [int(worth.argmax())]
    while len(picked) < min(number, len(scores)):
        value = (1 - variety) * worth - variety * likeness[:, picked].amax(1)
        value[picked] = -math.inf
        picked.append(int(value.argmax()))
    return picked[:number]


def _finite(scores: Tensor) -> Tensor:
    """With the infinite ones as far beyond the others as these reach."""
    known = scores[scores.isfinite()]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 0.0)
    beyond = max(float(high - low), 1.0)
    return scores.clamp(float(low) - beyond, float(high) + beyond)


def _unit(values: Tensor) -> Tensor:
    """Brought to 0..1; all equal are 0."""
    if not len(values):
        return values
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else torch.zeros_like(values)


def diversity(embeddings: Tensor) -> float:
    """How unlike the items of a batch are: mean of 1 - cosine over all pairs; 0 for one item.

    embeddings: [B, D] of length 1; items that are not finite are left out.
    """
    known = embeddings[torch.isfinite(embeddings).all(1)].cpu().double()
    count = len(known)
    if count < 2:
        return 0.0
    cosine = known @ known.T
    return max(0.0, float(1 - (cosine.sum() - cosine.trace()) / (count * (count - 1))))  # not -0 by rounding
