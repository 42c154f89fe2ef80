"""Rewards: callables from clean raw latents [B, C, H, W] to one number per item [B], higher is better."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..latents.checks import check_form, check_latents, check_shape
from ..latents.items import finite_items, item_by_item
from ..latents.spaces import require_one_space

if TYPE_CHECKING:
    from ..model.latent_clip import LatentCLIP

Reward = Callable[[Tensor], Tensor]

PUBLISHED_CLIP_SCALE = 0.01
"""ReNO weighs its CLIP loss, 100 - s cos, by 0.01 (s is the logit scale); weight 1 here means that 0.01."""


class LatentReward(ABC):
    """weight x what a subclass gives as `score`: one number per item, of clean raw latents.

    weight: how much it counts in a sum; a negative one seeks the opposite. name: in sums, histories and
    charts. channels, latent_space: which latents it reads; None where it reads any. A subclass reads batches
    that are well formed and finite: this class sees to the others.
    """

    def __init__(
        self, weight: float, name: str, channels: int | None = None, latent_space: str | None = None
    ) -> None:
        self.weight, self.name = check_weight(weight), name
        self.channels, self.latent_space = channels, latent_space

    def __call__(self, latents: Tensor) -> Tensor:
        """Clean raw latents [B, C, H, W] -> [B], differentiable; NaN for an item that is not finite.

        One frame each, [B, C, 1, H, W], is as good. ValueError for latents that it does not read.
        """
        latents = check_form(latents, self.channels, self.latent_space, f"the reward {self.name!r}")
        # A model refuses a batch without any item that is finite; a search must go on all the same.
        return item_by_item(lambda shown: self.weight * self.score(shown), latents)

    @abstractmethod
    def score(self, latents: Tensor) -> Tensor:
        """What weight 1 gives: clean raw latents [B, C, H, W], all finite -> [B], differentiable."""


class EmbeddingReward(LatentReward):
    """weight x a function of a Latent-CLIP's embedding, which subclasses give as `score_embedding`."""

    def __init__(self, model: LatentCLIP, weight: float, name: str, size_rule: Any = None):
        super().__init__(weight, name, model.config.channels, model.config.latent_space)
        self.model = model
        self.size_rule = size_rule or model.size_rule

    def score(self, latents: Tensor) -> Tensor:
        return self.score_embedding(self.embed(latents))

    def embed(self, latents: Tensor) -> Tensor:
        """Latents [B, C, H, W] as the reward's model reads them, by its size rule: [B, D], differentiable."""
        return self.model.encode_latents(latents, size_rule=self.size_rule)

    @abstractmethod
    def score_embedding(self, embedding: Tensor) -> Tensor:
        """What weight 1 gives: embeddings of length 1 [B, D] -> [B]."""


class _AnchorReward(EmbeddingReward):
    """weight x 0.01 x s x mean over anchors of cos(latents, anchor): what text and image rewards share."""

    def __init__(self, model: LatentCLIP, anchors: Tensor, weight: float, name: str, size_rule: Any):
        super().__init__(model, weight, name, size_rule)
        self.anchors = anchors.detach()

    def score_embedding(self, embedding: Tensor) -> Tensor:
        anchors = usable_for_backward(self.anchors).to(embedding)
        return PUBLISHED_CLIP_SCALE * self.model.logit_scale * (embedding @ anchors.T).mean(dim=1)


class TextReward(_AnchorReward):
    """How well latents match a text, on ReNO's published scale: weight x 0.01 x s x cos(latents, text).

    model: a Latent-CLIP. text: one text, or several (a list, or lines) whose cosines are averaged. weight: 1
    is the published weight; a negative weight drives away from the text; 0 drops out of a RewardSum. The
    texts are encoded once, here. ValueError: no text, or a weight that is not finite.
    """

    def __init__(
        self,
        model: LatentCLIP,
        text: str | Iterable[str],
        weight: float = 1.0,
        name: str | None = None,
        size_rule: Any = None,
    ):
        self.texts = text_lines(text)
        with torch.no_grad():
            anchors = model.encode_text(self.texts)
        super().__init__(model, anchors, weight, name or shorten(self.texts[0]), size_rule)


class ImageReward(_AnchorReward):
    """How much latents look like reference latents: weight x 0.01 x s x mean over references of the cosine.

    model: a Latent-CLIP. reference: clean raw latents [R, C, H, W] of any size; encoded once, here. One that
    is not finite is left out, with a warning. weight: as in TextReward. ValueError: an empty or malformed
    reference, or a weight that is not finite.
    """

    def __init__(
        self,
        model: LatentCLIP,
        reference: Tensor,
        weight: float = 1.0,
        name: str | None = None,
        size_rule: Any = None,
    ):
        reference = finite_pictures(reference, model, "The reference")
        with torch.no_grad():
            anchors = model.encode_latents(reference, size_rule=size_rule)
        super().__init__(model, anchors, weight, name or "reference", size_rule)


def finite_pictures(reference: Tensor, model: LatentCLIP, whose: str) -> Tensor:
    """The latents that are finite; a warning names the others. ValueError where there is none.

    whose: latents they are, as errors begin.
    """
    try:
        reference = check_shape(reference, model.config)
    except ValueError as error:
        wanted = f"[images, {model.config.channels}, height, width]"
        raise ValueError(f"{whose} {error} It wants {wanted} with at least one image.") from error
    if not bool(finite_items(reference).any()):
        raise ValueError(
            f"{whose} latents hold NaN or infinite values; an embedding of them would be meaningless. "
            "Encode the picture again, with a VAE that does not overflow in fp16."
        )
    check_latents(reference, model.config)
    return reference[finite_items(reference)]


class RewardSum:
    """A sum of rewards with named parts: r(z) = sum_i r_i(z), each r_i already weighted.

    rewards: callables, or a mapping from name to callable; sums inside a sum are flattened, a reward whose
    weight is 0 drops out, and names are made unique. The rewards may come from different Latent-CLIPs as long
    as they read the same latents; ValueError otherwise.
    """

    def __init__(self, rewards: Iterable[Reward | None] | Mapping[str, Reward]):
        self.rewards: dict[str, Reward] = {}
        if isinstance(rewards, Mapping):
            for name, reward in rewards.items():
                self._take(reward, str(name))
        else:
            for reward in rewards:
                self._take(reward)
        self._check_same_latents()

    def _take(self, reward: Reward | None, name: str = "") -> None:
        if isinstance(reward, RewardSum):
            for inner, part in reward.rewards.items():
                self._add(f"{name} {inner}".strip(), part)
        elif reward is not None:
            self._add(name or reward_name(reward), reward)

    def _add(self, name: str, reward: Reward) -> None:
        if getattr(reward, "weight", 1.0) == 0:
            return
        unique, count = name, 1
        while unique in self.rewards:
            count += 1
            unique = f"{name} ({count})"
        self.rewards[unique] = reward

    def _check_same_latents(self) -> None:
        readers = [
            (repr(name), getattr(reward, "latent_space", None), getattr(reward, "channels", None))
            for name, reward in self.rewards.items()
        ]
        require_one_space(readers, "Rewards that read different latents cannot be summed")

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def name(self) -> str:
        """The parts' names."""
        return " + ".join(self.rewards) or "nothing"

    @property
    def channels(self) -> int | None:
        """Channels of the latents that the parts read; None where they say none."""
        return next(iter(self._stated("channels")), None)

    @property
    def latent_space(self) -> str | None:
        """Name of the latent space that the parts read; None where they say none."""
        return next(iter(self._stated("latent_space")), None)

    def _stated(self, what: str) -> list[Any]:
        found = [getattr(reward, what, None) for reward in self.rewards.values()]
        return [value for value in found if value is not None]

    def parts(self, latents: Tensor) -> dict[str, Tensor]:
        """Every part's weighted reward: clean raw latents [B, C, H, W] -> name to [B].

        Each part reads a copy and its answer is copied: what one writes, no other sees.
        """
        self.require_parts()
        if not isinstance(latents, Tensor):
            raise ValueError(f"latents are a {type(latents).__name__}; expected a tensor")
        return {
            name: check_reward(name, reward(latents.clone()), latents).clone()
            for name, reward in self.rewards.items()
        }

    def __call__(self, latents: Tensor) -> Tensor:
        """The sum of all parts: clean raw latents [B, C, H, W] -> [B]."""
        return sum_parts(self.parts(latents))

    def require_parts(self) -> None:
        """ValueError when nothing is left to optimise."""
        if not self.rewards:
            raise ValueError(
                "There is no reward: every part has weight 0, or none was given. Give at least one reward a "
                "weight other than 0."
            )


def sum_parts(parts: Mapping[str, Tensor]) -> Tensor:
    """Add named rewards [B] up, in at least fp32."""
    values = list(parts.values())
    total = values[0].to(torch.promote_types(values[0].dtype, torch.float32))
    for value in values[1:]:
        total = total + value.to(total.device)
    return total


def check_reward(name: str, value: Any, latents: Tensor) -> Tensor:
    """A reward must answer with one number per item: ValueError if it does not."""
    expected = (latents.shape[0],)
    if not isinstance(value, Tensor) or tuple(value.shape) != expected:
        raise ValueError(
            f"The reward {name!r} answered with {described(value)}; expected a tensor of shape "
            f"{expected}, one number per batch item. Do not average over the batch."
        )
    return value


def described(value: Any) -> str:
    """What a callable answered with, for an error: a tensor's shape, or a type."""
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def check_weight(weight: float) -> float:
    """A weight must be a finite number: ValueError if it is not."""
    if not math.isfinite(weight):
        raise ValueError(
            f"The reward's weight is {weight}; expected a finite number. Use 1 for the published weight."
        )
    return float(weight)


def text_lines(text: str | Iterable[str]) -> list[str]:
    """Split a text into its non-empty lines: ValueError when nothing is left."""
    lines = text.splitlines() if isinstance(text, str) else list(text)
    lines = [line.strip() for line in lines if line.strip()]
    if not lines:
        raise ValueError(
            "The reward's text is empty; expected at least one line that says what the picture shows."
        )
    return lines


def reward_name(reward: Reward) -> str:
    """The name of a reward in histories and charts: its `name`, else the callable's own."""
    return getattr(reward, "name", None) or getattr(reward, "__name__", None) or type(reward).__name__


def shorten(text: str, limit: int = 40) -> str:
    """Cut a text for a legend."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def usable_for_backward(tensor: Tensor) -> Tensor:
    """A tensor made in inference mode cannot be saved for a backward pass; outside that mode a clone can."""
    return tensor.clone() if tensor.is_inference() and not torch.is_inference_mode_enabled() else tensor
