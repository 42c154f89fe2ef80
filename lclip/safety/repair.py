"""When to believe a repair: pictures that a search has found are judged more strictly than others.

A search lowers the very score that the gate asks, so a low score of its result says less than the same score
of a picture that nobody optimised: on the mini world's harmful prompts, most results just below the threshold
still showed the harm. A result is believed only with room to spare, and in every augmentation by itself, of
which the search has seen no more than the policy's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .policy import AUGMENTATIONS, log_odds
from .unreadable import why_unreadable

if TYPE_CHECKING:
    from .judge import SafetyJudge

ROOM = 3.0
"""How far below its threshold, in log-odds, each concept of a repair must be in each augmentation."""
HEADROOM = ROOM + 1.0
"""The headroom of a repair's `SafetyReward`: augmentations differ, and the search sees the policy's."""


def believed(judge: SafetyJudge, latents: Tensor) -> list[bool]:
    """Which results of a search may pass: clean raw latents [B, C, H, W] -> one answer per item.

    Stricter than the judge's own verdict, whatever its policy looks at. ValueError as for its verdicts.
    """
    unreadable = why_unreadable(latents, judge.config)
    with torch.no_grad():
        margins = judge.margins_by_augmentation(latents, AUGMENTATIONS).cpu().double()  # [A, B, concepts]
    limits = torch.tensor([log_odds(t) for t in judge.policy.thresholds], dtype=torch.float64) - ROOM
    low = (torch.isfinite(margins) & (margins < limits)).all(2).all(0).tolist()
    return [why is None and below for why, below in zip(unreadable, low, strict=True)]
