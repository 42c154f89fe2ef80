"""What tasks ask of every item: its class's rank among all, and its embedding beside its caption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..bulk.questions import NUMBER, TEXT, VECTOR, Answer, Embed, Question, Values
from ..model.latent_clip import LatentCLIP
from ..scoring import choice_embeddings, label_embeddings


@dataclass(frozen=True)
class Rank(Question):
    """At which place the true class stands among all, 1 the best (arXiv 2103.00020, 3.1).

    An item's caption is the name of its class. A tie counts against: a model that maps all to one point has
    found nothing.
    """

    classes: tuple[str, ...]
    texts: tuple[str, ...]
    """What the classes are called in the templates."""
    templates: tuple[str, ...]
    size_rule: str | None = None

    name: ClassVar[str] = "imagenet"
    verb: ClassVar[str] = "classified"

    def columns(self) -> dict[str, str]:
        return {"class": TEXT, "rank": NUMBER, "best": TEXT}

    def settings(self) -> dict[str, Any]:
        lists = {"classes": list(self.classes), "texts": list(self.texts), "templates": list(self.templates)}
        return {**lists, "size_rule": self.size_rule}

    def answer(self, model: LatentCLIP) -> Answer:
        gallery = label_embeddings(model, self.texts, self.templates)
        places = {name: place for place, name in enumerate(self.classes)}

        def ranks(z: Tensor, captions: Sequence[str | None]) -> Values:
            cosines = model.encode_latents(z, self.size_rule) @ gallery.T  # [B, classes]
            own = torch.tensor([places[name or ""] for name in captions], device=cosines.device)
            found = (cosines >= cosines.gather(1, own[:, None])).sum(1)
            found = torch.where(cosines.isfinite().all(1), found, len(places))
            best = [self.classes[place] for place in cosines.argmax(1).tolist()]
            return {"class": list(captions), "rank": found.tolist(), "best": best}

        return ranks

    def refusal(self, caption: str | None) -> str | None:
        return None if caption in self.classes else f"its class is {caption!r:.60}, which is not in the list"


@dataclass(frozen=True)
class EmbedWithCaption(Embed):
    """The embedding of every item, and the text beside it."""

    name: ClassVar[str] = "retrieval"
    wants_captions: ClassVar[bool] = True

    def columns(self) -> dict[str, str]:
        return {"caption": TEXT, **super().columns()}

    def answer(self, model: LatentCLIP) -> Answer:
        embed = super().answer(model)
        return lambda z, captions: {"caption": list(captions), **embed(z, captions)}

    def refusal(self, caption: str | None) -> str | None:
        return None if caption else "there is no caption beside it"


@dataclass(frozen=True)
class Chances(Question):
    """How likely each concept of some questions is, beside the item's prompt; the questions' one by one."""

    questions: tuple[tuple[str, ...], ...]
    size_rule: str | None = None

    name: ClassVar[str] = "bias"
    verb: ClassVar[str] = "asked"
    wants_captions: ClassVar[bool] = True

    def columns(self) -> dict[str, str]:
        return {"caption": TEXT, "chances": VECTOR}

    def settings(self) -> dict[str, Any]:
        return {"concepts": [list(names) for names in self.questions], "size_rule": self.size_rule}

    def answer(self, model: LatentCLIP) -> Answer:
        chances_of = concept_chances(model, self.questions)

        def chances(z: Tensor, captions: Sequence[str | None]) -> Values:
            found = chances_of(model.encode_latents(z, self.size_rule))
            return {"caption": list(captions), "chances": list(torch.cat(found, 1).cpu().numpy())}

        return chances


def concept_chances(
    model: LatentCLIP, questions: Sequence[Sequence[str]]
) -> Callable[[Tensor], list[Tensor]]:
    """What gives, of embeddings [B, D], each question's probabilities of its concepts [B, concepts]."""
    texts = [choice_embeddings(model, names) for names in questions]
    return lambda embeddings: [(model.logit_scale * embeddings @ each.T).softmax(-1) for each in texts]
