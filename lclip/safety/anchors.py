"""A policy's texts as a Latent-CLIP reads them: refused where it could not tell them apart.

Anchors that are the same tokens to a model have the same embedding: a concept with one of them on each side
has the same probability for every picture. Words that a model does not know, and ends that it does not read,
lead there; so a policy that has any is refused by name.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..checkpoints.fingerprint import fingerprint
from ..model.text_doubts import named, shortened
from ..scoring import filled, label_embeddings
from .everyday import everyday_texts, without

if TYPE_CHECKING:
    from ..model.latent_clip import LatentCLIP
    from .policy import PolicyData

Reading = tuple[bytes, ...]
"""The tokens of a text in every template, as every model reads them."""


@dataclass(frozen=True)
class Sides:
    """A concept's texts by their places in the list of all texts. Those that read the same are there once."""

    unsafe: list[int]
    safe: list[int]
    everyday: list[int]


class Anchors:
    """The texts of a policy, encoded once by each of its models.

    ValueError, by name, for words that a model does not know, texts that it does not read to their end, and
    an unsafe text that reads like a harmless one.
    """

    def __init__(self, policy: PolicyData, models: Sequence[LatentCLIP]) -> None:
        if policy.everyday is None:
            unsafe = [text for concept in policy.concepts for text in concept.unsafe]
            policy = policy.settled(everyday=without(_texts_of_all(models), unsafe))
        self.policy = policy
        """The policy with the everyday texts that it asks about."""
        _refuse_unread(policy, models)
        texts = list(dict.fromkeys([*_own_texts(policy), *(policy.everyday or ())]))
        readings = dict(zip(texts, _readings(texts, policy.templates, models), strict=True))
        self.sides = list(_sides(policy, texts, readings))
        with torch.no_grad():
            self.embeddings: list[Tensor] = [_embeddings(m, texts, policy.templates) for m in models]
            """[texts, D], of each model."""


KEPT = 8  # lists of texts that are kept for each model
_KNOWN: weakref.WeakKeyDictionary[LatentCLIP, dict[object, Tensor]] = weakref.WeakKeyDictionary()


def _embeddings(model: LatentCLIP, texts: Sequence[str], templates: Sequence[str]) -> Tensor:
    """`label_embeddings`, encoded once for each model, its weights as they are, and list of texts.

    A policy is asked by gate, guard, reward and repair, each with a judge of its own.
    """
    known = _KNOWN.setdefault(model, {})
    weight = next(model.parameters())
    key = (fingerprint(model), weight.dtype, model.compute_dtype, tuple(texts), tuple(templates))
    if key not in known:
        while len(known) >= KEPT:
            del known[next(iter(known))]
        known[key] = label_embeddings(model, texts, templates)
    return known[key]


def _texts_of_all(models: Sequence[LatentCLIP]) -> tuple[str, ...]:
    """The first model's everyday texts, as far as the others have them too."""
    first, *others = [everyday_texts(model) for model in models]
    return tuple(text for text in first if all(text in other for other in others))


def _own_texts(policy: PolicyData) -> Iterator[str]:
    for concept in policy.concepts:
        yield from (*concept.unsafe, *concept.safe)
    yield from policy.allow


def _refuse_unread(policy: PolicyData, models: Sequence[LatentCLIP]) -> None:
    groups = [(f"the concept {c.name!r}", (*c.unsafe, *c.safe)) for c in policy.concepts]
    groups += [("the allow-list", policy.allow), ("the everyday texts", policy.everyday or ())]
    for who, texts in groups:
        for text in texts:
            for model in models:
                _refuse_unread_text(f"the safety policy {policy.name!r}: {who}", text, policy, model)


def _refuse_unread_text(who: str, text: str, policy: PolicyData, model: LatentCLIP) -> None:
    sentences = filled([text], policy.templates)
    for saying in (text, *sentences):
        if words := model.tokenizer.unknown_words([saying])[0]:
            raise ValueError(
                f"{who} says {saying!r}, and this Latent-CLIP does not know {named(words)}: it would judge "
                "by words that mean nothing to it. Use words that it knows, a preset for it, or another "
                "Latent-CLIP."
            )
    if any(model.tokenizer.truncated(sentences)):
        raise ValueError(
            f"{who} says {shortened(text)!r}, which is cut: this Latent-CLIP reads "
            f"{model.tokenizer.context_length} tokens, with the template around it. Make the text shorter."
        )


def _readings(
    texts: Sequence[str], templates: Sequence[str], models: Sequence[LatentCLIP]
) -> Iterator[Reading]:
    """What each text reads as, in the order of the texts."""
    of_models = [model.tokenizer.encode(filled(texts, templates)).numpy() for model in models]
    step = len(templates)
    for place in range(len(texts)):
        yield tuple(ids[place * step : (place + 1) * step].tobytes() for ids in of_models)


def _sides(policy: PolicyData, texts: list[str], readings: dict[str, Reading]) -> Iterator[Sides]:
    for concept in policy.concepts:
        unsafe = _once(concept.unsafe, readings)
        safe = _once((*concept.safe, *policy.allow), readings)
        everyday = _once(policy.everyday or (), readings)
        harmless = {**everyday, **safe}
        for reading in unsafe.keys() & harmless.keys():
            raise ValueError(
                f"the safety policy {policy.name!r}: the concept {concept.name!r} calls {unsafe[reading]!r} "
                f"unsafe and {harmless[reading]!r} harmless, and this Latent-CLIP reads both as the same "
                "tokens, so no picture could tell them apart. Word one of them otherwise."
            )
        elsewhere = {reading: text for reading, text in everyday.items() if reading not in safe}
        yield Sides(*([texts.index(text) for text in side.values()] for side in (unsafe, safe, elsewhere)))


def _once(texts: Sequence[str], readings: dict[str, Reading]) -> dict[Reading, str]:
    """The first text of each reading."""
    found: dict[Reading, str] = {}
    for text in texts:
        found.setdefault(readings[text], text)
    return found
