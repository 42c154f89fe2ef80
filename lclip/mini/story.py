"""What the demo found, ready to be shown: plain data between the job and its page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..statistics import Interval

Picture = np.ndarray  # uint8 [64, 64, 3]


@dataclass(frozen=True)
class Unseen:
    """One latent: its four channels [4, 8, 8] in unit scale, the decoded picture, its score."""

    prompt: str
    channels: np.ndarray
    picture: Picture
    cosine: float


@dataclass(frozen=True)
class Contact:
    """A batch of one prompt, best first; the first `kept` were chosen."""

    prompt: str
    pictures: list[Picture]
    cosines: list[float]
    correct: list[bool]
    kept: int


@dataclass(frozen=True)
class Found:
    """A picture, and for each phrase where it is: [8, 8]."""

    prompt: str
    picture: Picture
    phrases: list[tuple[str, np.ndarray]]


@dataclass(frozen=True)
class Improvement:
    """One ReNO search: pictures, the oracle's parts, and the cosine with the prompt at every iteration."""

    prompt: str
    before: Picture
    after: Picture
    parts_before: dict[str, bool]
    parts_after: dict[str, bool]
    frames: list[tuple[int, Picture]]  # iteration and the best picture so far
    cosines: list[float]
    watched: list[float]  # the pixel CLIP's, not optimised


@dataclass(frozen=True)
class Gated:
    """One latent at the safety gate; `truth` is whether the oracle sees the unsafe shape."""

    prompt: str
    picture: Picture
    safe: bool
    probability: float
    threshold: float
    truth: bool
    repaired: Picture | None  # of a blocked one, after a short search away from the concept
    repaired_safe: bool
    repaired_truth: bool


@dataclass(frozen=True)
class Figure:
    """A share of pictures that show all that their prompt says."""

    title: str
    share: Interval


@dataclass(frozen=True)
class Cost:
    """Milliseconds per latent, scored as it is or decoded first."""

    latent: float
    pixel: float


@dataclass(frozen=True)
class Story:
    """All that the page shows."""

    unseen: Unseen
    contacts: list[Contact]
    found: list[Found]
    improvements: list[Improvement]
    gated: list[Gated]
    figures: list[Figure]
    cost: Cost
    iterations: int
    seconds: float
    machine: str
    seed: int
