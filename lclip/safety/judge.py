"""Asking a Latent-CLIP whether latents are safe. Fails closed: whatever is not provably safe is blocked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checkpoints.fingerprint import fingerprint, fingerprint_of_all
from ..latents.checks import check_form, check_shape
from ..latents.items import finite_items, per_item
from ..latents.neutral import is_neutral
from ..latents.reader import PLAIN_SIZE_RULE
from ..latents.spaces import require_one_space, require_space
from ..model.latent_clip import LatentCLIP
from ..rewards.rewards import usable_for_backward
from .anchors import Anchors, Sides
from .policy import PolicyData, check_augmentations, log_odds
from .unreadable import why_unreadable

UNREADABLE, GREY = "unreadable", "grey"
"""What stands in the place of a concept where none is asked about."""


@dataclass(frozen=True)
class Verdict:
    """What a policy says about one batch item."""

    index: int
    """Place in the batch, from 0."""
    safe: bool
    """Whether every concept's probability is finite and below its threshold; or it is plain grey."""
    concept: str
    """The concept nearest to its threshold, or furthest beyond it; "unreadable" where nothing could be
    asked, "grey" for the plain grey that stands in for a blocked picture, and is blocked no second time.
    """
    probability: float
    """Of that concept; NaN where there is none."""
    threshold: float
    """Of that concept, with the strictness applied; the lowest of all where there is none."""
    reason: str
    """One sentence."""
    runner_up: str | None = None
    """The next concept after that, if the policy has several."""
    runner_up_probability: float = math.nan
    probabilities: dict[str, float] | None = None
    """Every concept's probability, or None where none was asked about."""
    none_of_these: bool = False
    """Whether it is safe, and everyday texts fit it better than all that any concept says of its subject."""


class SafetyJudge:
    """A policy with the Latent-CLIP that answers it: the anchors' texts are encoded once, here.

    model: a Latent-CLIP, or several of one latent space whose answers are averaged.
    check_scale: also block what does not have the scale of clean raw latents; switch it off only for a
    predicted x0 while sampling, which may be faint.

    ValueError: a policy made for another model, latent space or size rule, or with texts that the model does
    not read or cannot tell apart (see `lclip.safety.anchors`); or no model.
    """

    def __init__(
        self,
        policy: PolicyData,
        model: LatentCLIP | Sequence[LatentCLIP],
        check_scale: bool = True,
    ) -> None:
        self.models = _models(model)
        self.check_scale = check_scale
        self.config = self.models[0].config
        self._check_fit(policy)
        self._anchors = Anchors(policy, self.models)
        self.policy = self._anchors.policy

    def _check_fit(self, policy: PolicyData) -> None:
        configs = [each.config for each in self.models]
        readers = [(f"model {n}", c.latent_space, c.channels) for n, c in enumerate(configs, 1)]
        require_one_space(readers, "the models that judge together read different latents")
        if policy.latent_space is not None:
            require_space(
                self.config.latent_space,
                policy.latent_space,
                "this Latent-CLIP",
                f"the safety policy {policy.name!r} is for",
                "Use a policy without a latent space, or a Latent-CLIP of that one.",
            )
        found = fingerprint_of_all(self.models)
        if policy.model is not None and sorted(policy.model.split("+")) != sorted(found.split("+")):
            raise ValueError(
                f"the safety policy {policy.name!r} was calibrated with the model {policy.model}; this one "
                f"is {found}. Its thresholds mean nothing here: calibrate it again."
            )
        self.size_rule = self._size_rule(policy)

    def _size_rule(self, policy: PolicyData) -> str:
        """How other sizes are read. Thresholds hold for them only as they were read when they were found."""
        rules = sorted({each.size_rule for each in self.models})
        if len(rules) > 1:
            raise ValueError(
                f"the models that judge together read other sizes by different rules: {', '.join(rules)}. "
                "Load them with one size rule."
            )
        asked = policy.size_rule
        if policy.model is not None and asked is None:
            return PLAIN_SIZE_RULE  # calibrated before policies recorded it, when nothing else was read by
        if policy.model is not None and asked != rules[0]:
            raise ValueError(
                f"the safety policy {policy.name!r} was calibrated under the size rule {asked!r}; this "
                f"Latent-CLIP reads other sizes by {rules[0]!r}. Load it with the size rule {asked!r} "
                "(size_rule), or calibrate the policy again."
            )
        return asked or rules[0]

    @property
    def digest(self) -> str:
        """SHA-256 of policy and models: two judgements with the same digest and latents agree."""
        policy = self.policy.settled(size_rule=self.size_rule)
        return policy.digest(fingerprint(each) for each in self.models)

    def __call__(self, z: Tensor) -> list[Verdict]:
        """One verdict per item of clean raw latents [B, C, H, W]. ValueError where the batch cannot be
        read.
        """
        reasons = why_unreadable(z, self.config, self.check_scale)
        logits = self._logits_on_cpu(z)
        rows, elsewhere = self._probabilities(logits).tolist(), self._elsewhere(logits).tolist()
        grey = is_neutral(z, self.config.latent_space).tolist()
        return [
            self.of_grey(i) if grey[i] else self._verdict(i, row, reasons[i], elsewhere[i])
            for i, row in enumerate(rows)
        ]

    def of_grey(self, index: int) -> Verdict:
        """The verdict on plain grey in the place of a blocked picture: safe, whatever a model sees in it."""
        reason = "plain grey, which stands in for a blocked picture"
        return Verdict(index, True, GREY, math.nan, min(self.policy.thresholds), reason)

    def probabilities(self, z: Tensor) -> Tensor:
        """[B, concepts], float64 on the CPU, averaged over augmentations and models; NaN where an item is not
        finite.
        """
        check_shape(z, self.config)
        return self._probabilities(self._logits_on_cpu(z))

    def margins(self, z: Tensor, augmentations: Sequence[str] | None = None) -> Tensor:
        """log p / (1 - p) per concept, of the same p as `probabilities`: [B, concepts].

        Differentiable in z. NaN for an item that is not finite. augmentations: instead of the policy's own.
        """
        return _mean_log_odds(self.margins_by_augmentation(z, augmentations))

    def margins_by_augmentation(self, z: Tensor, augmentations: Sequence[str] | None = None) -> Tensor:
        """The same, of each augmentation and model by itself: [augmentations x models, B, concepts]."""
        return torch.stack([self._margins_of(logits) for logits in self._logits(z, augmentations)])

    def excess(self, z: Tensor, augmentations: Sequence[str] | None = None) -> Tensor:
        """How far the worst concept lies beyond its threshold, in log-odds: [B], differentiable in z.

        0 and above: the verdict is unsafe.
        """
        margins = self.margins(z, augmentations)
        return (margins - margins.new_tensor([log_odds(t) for t in self.policy.thresholds])).amax(1)

    def _margins_of(self, logits: Tensor) -> Tensor:
        """Log-odds of each concept's unsafe texts against its others. [B, texts] -> [B, concepts]"""
        return torch.stack(
            [
                logits[:, sides.unsafe].logsumexp(1) - logits[:, [*sides.safe, *sides.everyday]].logsumexp(1)
                for sides in self._anchors.sides
            ],
            dim=1,
        )

    def _probabilities(self, logits: Sequence[Tensor]) -> Tensor:
        margins = torch.stack([self._margins_of(each) for each in logits])
        # An infinite margin is a broken model, not a certainty.
        margins = torch.where(torch.isfinite(margins), margins, torch.full_like(margins, torch.nan))
        return margins.sigmoid().mean(0)

    def _elsewhere(self, logits: Sequence[Tensor]) -> Tensor:
        """Whether the everyday texts have more than half of the softmax in every concept: bool [B]."""
        shares = [
            torch.stack([_share(each, sides) for each in logits]).mean(0) for sides in self._anchors.sides
        ]
        return (torch.stack(shares) > 0.5).all(0)

    def _logits_on_cpu(self, z: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return [logits.cpu().double() for logits in self._logits(z)]

    def _logits(self, z: Tensor, augmentations: Sequence[str] | None = None) -> Iterator[Tensor]:
        """s cos(z, text) for each model and augmentation: [B, texts]; NaN for an item that is not finite."""
        z = check_form(z, self.config.channels, self.config.latent_space)
        finite = finite_items(z)
        # The model refuses a batch without any item that is finite; to a judge that is an answer.
        shown = torch.where(per_item(finite, z), z, torch.zeros_like(z))
        names = check_augmentations(augmentations or self.policy.augmentations)
        for each, anchors in zip(self.models, self._anchors.embeddings, strict=True):
            for augmented in _augmented(shown, names, each.config.grid):
                embedding = each.encode_latents(augmented, self.size_rule)
                logits = each.logit_scale * embedding @ usable_for_backward(anchors).to(embedding).T
                broken = per_item(~finite.to(logits.device), logits)
                yield torch.where(broken, torch.full_like(logits, torch.nan), logits)

    def _verdict(self, index: int, row: list[float], unreadable: str | None, elsewhere: bool) -> Verdict:
        thresholds = self.policy.thresholds
        if unreadable is None and not all(map(math.isfinite, row)):
            unreadable = "the model answered with NaN or infinity"
        if unreadable is not None:
            return Verdict(index, False, UNREADABLE, math.nan, min(thresholds), unreadable)
        names = [concept.name for concept in self.policy.concepts]
        order = sorted(range(len(row)), key=lambda c: log_odds(thresholds[c]) - log_odds(row[c]))
        # The one rule of this file; the order above only chooses which concept is named.
        safe = all(math.isfinite(p) and p < t for p, t in zip(row, thresholds, strict=True))
        if not safe:
            order.sort(key=lambda c: row[c] < thresholds[c])
        first, second = order[0], order[1] if len(order) > 1 else None
        none, sign = safe and elsewhere, "<" if safe else ">="
        nearest = "none of these: " if none else ""
        return Verdict(
            index=index,
            safe=safe,
            concept=names[first],
            probability=row[first],
            threshold=thresholds[first],
            reason=f"{nearest}{names[first]} {row[first]:.4g} {sign} {thresholds[first]:.4g}",
            runner_up=None if second is None else names[second],
            runner_up_probability=math.nan if second is None else row[second],
            probabilities=dict(zip(names, row, strict=True)),
            none_of_these=none,
        )


def _models(model: LatentCLIP | Sequence[LatentCLIP]) -> tuple[LatentCLIP, ...]:
    models = (model,) if isinstance(model, LatentCLIP) else tuple(model or ())
    if not models or not all(isinstance(each, LatentCLIP) for each in models):
        got = ", ".join(type(each).__name__ for each in models) or "nothing"
        raise ValueError(f"the judge is {got}; expected a Latent-CLIP, or several")
    return models


def _share(logits: Tensor, sides: Sides) -> Tensor:
    """Of the everyday texts in a concept's softmax; 0 where there are none. [B, texts] -> [B]"""
    if not sides.everyday:
        return logits.new_zeros(len(logits))
    everything = [*sides.unsafe, *sides.safe, *sides.everyday]
    return (logits[:, sides.everyday].logsumexp(1) - logits[:, everything].logsumexp(1)).exp()


def _mean_log_odds(margins: Tensor) -> Tensor:
    """Log-odds of the mean probability over the first axis, of which margins are the log-odds.

    In logarithms: ln mean p - ln mean (1 - p) keeps its value and its gradient where p rounds to 0 or 1.
    """
    return F.logsigmoid(margins).logsumexp(0) - F.logsigmoid(-margins).logsumexp(0)


def _augmented(z: Tensor, names: Sequence[str], grid: int) -> Iterator[Tensor]:
    if "whole" in names:
        yield z
    if "mirror" in names:
        yield z.flip(-1)
    if "corners" in names:
        down, right = (max(1, round(side / grid / 2)) for side in z.shape[-2:])  # half a token of the model
        for rows in (down, -down):
            for columns in (right, -right):
                yield _corner(z, rows, columns)


def _corner(z: Tensor, rows: int, columns: int) -> Tensor:
    """A corner crop: leaves rows and columns out on one side and repeats the edge on the other.

    Deviation from a crop that is enlarged again: small latents that were resampled are of no picture, and the
    mini world's AUC fell from 0.98 to 0.91 with them.
    """
    height, width = z.shape[-2:]
    down = (torch.arange(height, device=z.device) + rows).clamp(0, height - 1)
    across = (torch.arange(width, device=z.device) + columns).clamp(0, width - 1)
    return z[..., down, :][..., across]
