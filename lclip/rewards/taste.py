"""Own taste as a reward: a linear head on a Latent-CLIP's embedding, learnt from liked and disliked latents.

    r(z) = weight x 0.01 x s x (cos(e(z), w) - t)

w is the direction that parts the two kinds (`lclip.rewards.discriminant`), an anchor like that of a text, so
that a taste counts as much as a Text Reward of the same weight. 0 is where liked and disliked are equally
likely.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..checkpoints.fingerprint import fingerprint
from ..checkpoints.inputs import inputs_digest
from ..latents.checks import check_latents, check_shape
from ..latents.frames import as_pictures
from ..latents.items import finite_items
from ..latents.spaces import space_title
from ..statistics import Interval, wilson
from ..wording import Say, english
from .discriminant import discriminant
from .rewards import PUBLISHED_CLIP_SCALE, EmbeddingReward, usable_for_backward

if TYPE_CHECKING:
    from ..model.latent_clip import LatentCLIP

logger = logging.getLogger("latent-clip")

RECIPE = 1  # of the training: raised when the same examples come to give another taste
ENOUGH = 10  # examples a side; with fewer, chance decides much
CHUNK = 64  # latents embedded at once
COPY = 0.003  # of a latent's size: what half precision changes is less, what another picture changes is more


@dataclass(frozen=True)
class TasteFigures:
    """What a taste was learnt from, and how many examples fall on their own side when they are left out."""

    liked: int
    disliked: int
    liked_right: int
    disliked_right: int
    shrinkage: float

    @property
    def accuracy(self) -> float:
        """Leave-one-out accuracy, both sides counting alike: chance is 0.5 whatever their sizes."""
        return (self.liked_right / self.liked + self.disliked_right / self.disliked) / 2

    def interval(self) -> Interval:
        """The accuracy with its 95 % interval: Wilson's of both sides, squared and added (Newcombe 1998).

        Left-out examples share nearly all their training, so n of them tell about as much as n / 2 fresh ones
        (Nadeau and Bengio 2003: a variance of 1 / n + test / training examples).
        """
        sides = (
            wilson(self.liked_right / 2, self.liked / 2),
            wilson(self.disliked_right / 2, self.disliked / 2),
        )
        below = sum((side.value - side.low) ** 2 for side in sides) ** 0.5 / 2
        above = sum((side.high - side.value) ** 2 for side in sides) ** 0.5 / 2
        value = self.accuracy
        return Interval(value, value - below, value + above, self.liked + self.disliked)

    def lines(self, name: str, say: Say = english) -> list[str]:
        """As lines of a report about the taste of that name."""
        given = {"liked": self.liked, "disliked": self.disliked}
        share = f"{self.shrinkage:.3g}"
        return [
            say("{taste}: learnt from {liked} liked and {disliked} disliked latents", taste=name, **given),
            say(
                "left out one at a time, {liked} of the liked and {disliked} of the disliked fall on their "
                "own side: accuracy {accuracy} (95 % interval; chance is 50 %)",
                liked=self.liked_right,
                disliked=self.disliked_right,
                accuracy=self.interval().percent(),
            ),
            say("regularization: {share} of the covariance shrunk to the identity", share=share),
        ]


@dataclass(frozen=True, eq=False)
class Taste:
    """A linear head on an embedding: r = direction . e + bias, at weight 1.

    direction: [D], float32 on the CPU. model: fingerprint of the Latent-CLIP that it belongs to, model_name
    what that is called; None where a published head does not say. figures: None for a head from elsewhere.
    trained_from: a hash of all that it was learnt from (`lclip.checkpoints.inputs`), where that is known.
    size_rule: how the model read latents of other sizes when it was learnt; None where that is not known.
    """

    direction: Tensor
    bias: float
    name: str = "taste"
    model: str | None = None
    model_name: str = ""
    latent_space: str | None = None
    figures: TasteFigures | None = None
    notes: tuple[str, ...] = ()
    trained_from: str | None = None
    size_rule: str | None = None

    def equals(self, other: Taste) -> bool:
        """Whether both give the same reward, and belong to the same model."""
        same = (self.bias, self.model, self.figures) == (other.bias, other.model, other.figures)
        return same and torch.equal(self.direction, other.direction)

    def check_model(self, model: LatentCLIP, name: str = "") -> None:
        """Refuse a Latent-CLIP whose embeddings this taste was not learnt on. ValueError names both."""
        here = f"{name or 'this Latent-CLIP'} ({fingerprint(embedder(model))})"
        advice = "Embeddings of different models do not compare: load that model, or train the taste again."
        if self.model is not None and self.model != fingerprint(embedder(model)):
            own = f"{self.model_name or 'another Latent-CLIP'} ({self.model})"
            space = f", which reads {space_title(self.latent_space)}" if self.latent_space else ""
            raise ValueError(f"the taste {self.name!r} belongs to {own}{space}; got {here}. {advice}")
        if len(self.direction) != model.config.embed_dim:
            raise ValueError(
                f"the head {self.name!r} reads embeddings of {len(self.direction)} numbers; {here} gives "
                f"{model.config.embed_dim}. {advice}"
            )

    def text(self, say: Say = english) -> str:
        """As a report to read."""
        if self.figures is None:
            size = len(self.direction)
            lines = [
                say("{taste}: a linear head on embeddings of {size} numbers", taste=self.name, size=size)
            ]
        else:
            lines = self.figures.lines(self.name, say)
        if self.model is not None:
            name = self.model_name or say("unnamed")
            lines.append(
                say("model: {name} ({hash}), {space}", name=name, hash=self.model, space=self.latent_space)
            )
        if self.size_rule is not None:
            lines.append(say("other sizes read by: {rule}", rule=self.size_rule))
        return "\n".join([*lines, *(say("Warning: {text}", text=note) for note in self.notes)])


class TasteReward(EmbeddingReward):
    """How much latents are to a taste: weight x (direction . e + bias), differentiable in the latents.

    weight: 1 counts as much as a Text Reward of weight 1; a negative weight seeks what is disliked.
    ValueError: a taste of another model, or a weight that is not finite.
    """

    def __init__(
        self,
        model: LatentCLIP,
        taste: Taste,
        weight: float = 1.0,
        name: str | None = None,
        model_name: str = "",
    ) -> None:
        taste.check_model(model, model_name)
        self.doubts = _doubts(taste, model)
        """What is odd about this taste on this model, in words; it is logged too."""
        for doubt in self.doubts:
            logger.warning("%s", doubt)
        super().__init__(model, weight, name or taste.name)
        self.taste = taste

    def score_embedding(self, embedding: Tensor) -> Tensor:
        return embedding @ usable_for_backward(self.taste.direction).to(embedding) + self.taste.bias


def _doubts(taste: Taste, model: LatentCLIP) -> list[str]:
    if taste.size_rule in (None, model.size_rule):
        return []
    return [
        f"the taste {taste.name!r} was learnt where other sizes were read by {taste.size_rule!r}; this "
        f"Latent-CLIP reads them by {model.size_rule!r}. Of latents of its own size it says the same."
    ]


def train_taste(
    model: LatentCLIP,
    liked: Tensor | Sequence[Tensor],
    disliked: Tensor | Sequence[Tensor],
    shrinkage: float | None = None,
    name: str = "taste",
    model_name: str = "",
) -> Taste:
    """Learn what parts liked from disliked latents; 10 of each are enough for a plain taste.

    liked, disliked: clean raw latents [N, C, H, W], or several such batches of different sizes; at least 2 a
    side. A picture that a side holds twice counts once, one that is not finite not at all. shrinkage:
    0 < g <= 1; None takes it from the examples. name: of the reward in sums and charts.
    ValueError: latents that the model cannot read, too few, or a picture that is on both sides.
    """
    sides = {"liked": _batches(liked, model, "liked"), "disliked": _batches(disliked, model, "disliked")}
    _refuse_shared(sides["liked"], sides["disliked"])
    given = _count(sides)
    sides = {side: [batch[finite_items(batch)] for batch in batches] for side, batches in sides.items()}
    kept = {side: _distinct(batches) for side, batches in sides.items()}
    for side, batches in kept.items():
        if (count := sum(map(len, batches))) < 2:
            raise ValueError(f"there is {count} {side} picture; expected at least 2, better {ENOUGH}")
    embeddings = {side: _embed(model, batches) for side, batches in kept.items()}
    found = discriminant(embeddings["liked"], embeddings["disliked"], shrinkage)
    length = float(found.direction.norm())
    scale = PUBLISHED_CLIP_SCALE * model.logit_scale / length
    right = [int((side > 0).sum()) for side in found.margins]
    figures = TasteFigures(*map(len, found.margins), *right, shrinkage=found.shrinkage)
    notes = _notes(figures, _count(sides), given)
    for note in notes:
        logger.warning("Taste: %s", note)
    return Taste(
        direction=(found.direction * scale).float().cpu(),
        bias=-found.threshold * scale,
        name=name,
        model=fingerprint(embedder(model)),
        model_name=model_name,
        latent_space=model.config.latent_space,
        figures=figures,
        notes=notes,
        trained_from=taste_inputs(model, liked, disliked, shrinkage),
        size_rule=model.size_rule,
    )


def taste_inputs(
    model: LatentCLIP,
    liked: Tensor | Sequence[Tensor],
    disliked: Tensor | Sequence[Tensor],
    shrinkage: float | None = None,
) -> str:
    """The hash of all that `train_taste` would learn from; a taste that has it needs no second training."""
    sides = ([side] if isinstance(side, Tensor) else side for side in (liked, disliked))
    pictures = [[as_pictures(batch) for batch in side] for side in sides]
    native = (model.config.native_size,) * 2
    resized = any(batch.shape[-2:] != native for side in pictures for batch in side)
    rule = [model.size_rule] if resized else []  # pictures of the native size are read alike by all
    return inputs_digest("taste", RECIPE, fingerprint(model), *pictures, shrinkage, *rule)


def embedder(model: LatentCLIP) -> LatentCLIP:
    """The model whose embeddings these are: behind an adapter stands the one that it was made for."""
    return getattr(model, "base", model)


def _batches(side: Tensor | Sequence[Tensor], model: LatentCLIP, name: str) -> list[Tensor]:
    """The batches as pictures, with those that are not finite still there. ValueError as `train_taste`."""
    batches = [side] if isinstance(side, Tensor) else list(side)
    try:
        pictures = [check_shape(batch, model.config).detach() for batch in batches]
        for batch in pictures:
            if len(pictures) == 1 or bool(finite_items(batch).any()):
                check_latents(batch, model.config)
    except ValueError as error:
        raise ValueError(f"the {name} {error}") from error
    return pictures


def _count(sides: Mapping[str, list[Tensor]]) -> int:
    return sum(len(batch) for batches in sides.values() for batch in batches)


def _refuse_shared(liked: list[Tensor], disliked: list[Tensor]) -> None:
    for i, first in enumerate(liked):
        for j, second in enumerate(disliked):
            pairs = _copies(first, second).nonzero().tolist()
            if pairs:
                a, b = pairs[0][0] + sum(map(len, liked[:i])), pairs[0][1] + sum(map(len, disliked[:j]))
                raise ValueError(
                    f"liked item {a} and disliked item {b} are the same picture (items count from 0; "
                    f"{len(pairs)} such pairs); expected different ones. Take it out of one side."
                )


def _distinct(batches: list[Tensor]) -> list[Tensor]:
    """The batches without copies of earlier items: one that is left out must not stay as its copy."""
    kept: list[Tensor] = []
    for batch in batches:
        earlier = _copies(batch, batch).tril(-1).any(1)
        for other in kept:
            earlier |= _copies(batch, other).any(1)
        kept.append(batch[~earlier.to(batch.device)])
    return [batch for batch in kept if len(batch)]


def _copies(first: Tensor, second: Tensor) -> Tensor:
    """Which items are the same picture, perhaps in half precision: [N, ...], [M, ...] -> bool [N, M]"""
    if first.shape[1:] != second.shape[1:]:
        return torch.zeros(len(first), len(second), dtype=torch.bool)
    a, b = (batch.flatten(1).cpu().double() for batch in (first, second))
    squares = a.square().sum(1)[:, None], b.square().sum(1)[None]
    return squares[0] + squares[1] - 2 * a @ b.T <= COPY**2 * torch.minimum(*squares)


def _embed(model: LatentCLIP, batches: list[Tensor]) -> Tensor:
    parts = [part for batch in batches for part in batch.split(CHUNK)]
    with torch.no_grad():
        return torch.cat([model.encode_latents(part).cpu() for part in parts])  # not every device has float64


def _notes(figures: TasteFigures, finite: int, given: int) -> tuple[str, ...]:
    found = []
    if broken := given - finite:
        found.append(f"{broken} of the pictures hold NaN or infinity and do not count")
    if (twice := finite - figures.liked - figures.disliked) > 0:
        found.append(f"{twice} pictures were given twice and count once")
    if min(figures.liked, figures.disliked) < ENOUGH:
        found.append(
            f"only {figures.liked} liked and {figures.disliked} disliked; give at least {ENOUGH} of each"
        )
    if figures.interval().low <= 0.5:
        found.append(
            "these examples do not show a taste that is clearly better than chance; give more of them, or "
            "examples that differ in what you like alone"
        )
    return tuple(found)
