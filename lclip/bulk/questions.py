"""What can be asked of many latents: a question is plain data, so that it can travel to other processes.

A question names its columns and answers a batch [B, C, H, W] with B values for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..adapters.adapter import apply_adapter
from ..adapters.files import load_adapter
from ..checkpoints.checkpoint import load
from ..model.devices import device_named
from ..model.latent_clip import LatentCLIP
from ..model.text_doubts import text_doubts
from ..safety.judge import UNREADABLE, SafetyJudge, Verdict
from ..safety.safety_policy import SafetyPolicy
from ..scoring import choice_embeddings, filled, label_doubts

TEXT, NUMBER, FLAG, VECTOR = "text", "number", "flag", "vector"
"""Kinds of columns."""
OWN_COLUMNS = ("file", "item", "note", "error")
"""Columns of every table, whatever is asked."""

Values = dict[str, list[Any]]
"""A value for each item, by column."""
Answer = Callable[[Tensor, Sequence[str | None]], Values]
"""From clean raw latents [B, C, H, W] and a caption or None for each."""


@dataclass(frozen=True)
class ModelSource:
    """Which Latent-CLIP to ask, and where it computes."""

    path: Path
    """Its file."""
    device: str = "auto"
    """A torch device; "auto" takes the accelerator if there is one."""
    dtype: str = "float32"
    """Of the weights and the maths."""
    adapter: Path | None = None
    """The file of a latent adapter that the model stands behind."""
    read: Callable[..., LatentCLIP] = load
    """What reads the file. It travels by its name, so that a worker process imports what it needs: the mini
    world's own makes the mini world's latent spaces known there too.
    """

    def load(self) -> LatentCLIP:
        """The model, ready. Raises FileNotFoundError, CheckpointError; ValueError for an unknown device."""
        device = device_named(self.device)
        model = self.read(self.path, device, getattr(torch, self.dtype))
        if self.adapter is None:
            return model
        return apply_adapter(model, load_adapter(self.adapter, device))


@dataclass(frozen=True)
class Question:
    """What every question has."""

    name: ClassVar[str]
    verb: ClassVar[str]
    """What is done to an item, as reports say it."""
    wants_captions: ClassVar[bool] = False

    def columns(self) -> dict[str, str]:
        """Kind of every column that it fills, by name."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """All that can change an answer, apart from the model; of JSON's types."""
        raise NotImplementedError

    def asked(self) -> Sequence[str]:
        """The texts that every item is asked about, as they are read."""
        return ()

    def doubts(self, model: LatentCLIP) -> list[str]:
        """What the model cannot read of those texts, or tell apart."""
        return text_doubts(model, self.asked())

    def answer(self, model: LatentCLIP) -> Answer:
        """The function that answers; texts are encoded once, here. ValueError where they cannot be."""
        raise NotImplementedError

    def without_answer(self, error: str) -> dict[str, Any]:
        """What the columns say of an item that cannot be read; a column that is not named stays empty."""
        return {}

    def refusal(self, caption: str | None) -> str | None:
        """Why an item that can be read cannot be asked, or None."""
        return None


@dataclass(frozen=True)
class Score(Question):
    """Cosine of every item with texts, or with its own caption."""

    texts: tuple[str, ...]
    """One column each; none: every item's own caption, in the column "caption"."""
    size_rule: str | None = None

    name: ClassVar[str] = "score"
    verb: ClassVar[str] = "scored"

    def __post_init__(self) -> None:
        _check_names(self.texts, "text")

    @property
    def wants_captions(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return not self.texts

    def columns(self) -> dict[str, str]:
        return dict.fromkeys(self.texts, NUMBER) or {"caption": NUMBER}

    def settings(self) -> dict[str, Any]:
        return {"texts": list(self.texts), "size_rule": self.size_rule}

    def asked(self) -> Sequence[str]:
        return self.texts

    def answer(self, model: LatentCLIP) -> Answer:
        if not self.texts:
            return lambda z, captions: self._own(model, z, captions)
        texts = model.encode_text(self.texts)

        def cosines(z: Tensor, _: Sequence[str | None]) -> Values:
            values = (model.encode_latents(z, self.size_rule) @ texts.T).T.tolist()  # [T, B]
            return dict(zip(self.texts, values, strict=True))

        return cosines

    def _own(self, model: LatentCLIP, z: Tensor, captions: Sequence[str | None]) -> Values:
        """The cosine with the item's caption."""
        texts = model.encode_text([caption or "" for caption in captions])
        return {"caption": (model.encode_latents(z, self.size_rule) * texts).sum(-1).tolist()}

    def refusal(self, caption: str | None) -> str | None:
        return "there is no caption beside it" if self.wants_captions and not caption else None


@dataclass(frozen=True)
class Classify(Question):
    """Which label fits best, and the probability of each (arXiv 2103.00020, 3.1)."""

    labels: tuple[str, ...]
    templates: tuple[str, ...] = ("{}",)
    size_rule: str | None = None

    name: ClassVar[str] = "classify"
    verb: ClassVar[str] = "classified"

    def __post_init__(self) -> None:
        _check_names(self.labels, "label", ("label", "probability"))

    def columns(self) -> dict[str, str]:
        return {"label": TEXT, "probability": NUMBER, **dict.fromkeys(self.labels, NUMBER)}

    def settings(self) -> dict[str, Any]:
        labels, templates = list(self.labels), list(self.templates)
        return {"labels": labels, "templates": templates, "size_rule": self.size_rule}

    def asked(self) -> Sequence[str]:
        return filled(self.labels, self.templates)

    def doubts(self, model: LatentCLIP) -> list[str]:
        return [*super().doubts(model), *label_doubts(model, self.labels, self.templates)]

    def answer(self, model: LatentCLIP) -> Answer:
        labels = choice_embeddings(model, self.labels, self.templates)

        def probabilities(z: Tensor, _: Sequence[str | None]) -> Values:
            cosines = model.encode_latents(z, self.size_rule) @ labels.T
            shares = (model.logit_scale * cosines).softmax(-1)  # [B, L]
            best = shares.max(-1)
            return {
                "label": [self.labels[index] for index in best.indices.tolist()],
                "probability": best.values.tolist(),
                **dict(zip(self.labels, shares.T.tolist(), strict=True)),
            }

        return probabilities


@dataclass(frozen=True)
class Embed(Question):
    """The embedding of every item, of length 1."""

    size_rule: str | None = None

    name: ClassVar[str] = "embed"
    verb: ClassVar[str] = "embedded"

    def columns(self) -> dict[str, str]:
        return {"embedding": VECTOR}

    def settings(self) -> dict[str, Any]:
        return {"size_rule": self.size_rule}

    def answer(self, model: LatentCLIP) -> Answer:
        def embeddings(z: Tensor, _: Sequence[str | None]) -> Values:
            return {"embedding": list(model.encode_latents(z, self.size_rule).cpu().numpy())}

        return embeddings


@dataclass(frozen=True)
class Safety(Question):
    """Whether every item is safe by a policy. Whatever cannot be read is not."""

    policy: SafetyPolicy

    name: ClassVar[str] = "safety"
    verb: ClassVar[str] = "judged"

    def columns(self) -> dict[str, str]:
        return {
            "safe": FLAG,
            "concept": TEXT,
            "probability": NUMBER,
            "threshold": NUMBER,
            "reason": TEXT,
            "runner_up": TEXT,
            "runner_up_probability": NUMBER,
        }

    def settings(self) -> dict[str, Any]:
        return {"policy": self.policy.name, "hash": self.policy.digest()}

    def answer(self, model: LatentCLIP) -> Answer:
        judge = SafetyJudge(self.policy, model)

        def verdicts(z: Tensor, _: Sequence[str | None]) -> Values:
            judged = judge(z)
            values = {column: [getattr(verdict, column) for verdict in judged] for column in self.columns()}
            return {**values, "error": [_why_unreadable(verdict) for verdict in judged]}

        return verdicts

    def without_answer(self, error: str) -> dict[str, Any]:
        threshold = min(self.policy.thresholds)
        return {"safe": False, "concept": UNREADABLE, "threshold": threshold, "reason": error}


def _why_unreadable(verdict: Verdict) -> str | None:
    return verdict.reason if verdict.concept == UNREADABLE else None


def _check_names(names: Sequence[str], what: str, more: Sequence[str] = ()) -> None:
    """Texts become columns, so each must be there once and be no other column's name."""
    for name in names:
        if not name.strip() or len(name.splitlines()) > 1:
            raise ValueError(f"a {what} is {name!r}; expected words on one line")
        if names.count(name) > 1:
            raise ValueError(f"the {what} {name!r} is given twice; expected each once")
        if name in (*OWN_COLUMNS, *more):
            raise ValueError(f"the {what} {name!r} is the name of a column of the table; word it otherwise")
