"""A reward by which every item of a batch comes to show a concept of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..scoring import choice_embeddings, require_distinct
from .per_item import PerItemReward
from .rewards import PUBLISHED_CLIP_SCALE, usable_for_backward

if TYPE_CHECKING:
    from ..model.latent_clip import LatentCLIP


class ConceptReward(PerItemReward):
    """How surely each item shows its own concept and no other of the list: weight x 0.01 x log p.

    p is the zero-shot probability (arXiv 2103.00020, 3.1), so a cosine counts as in `TextReward`. The log
    lets go of what is plain already: the pull fades as p comes to 1, and 0 is the best value there is. Add it
    to a reward for the rest of the caption.

    model: a Latent-CLIP. concepts: two or more that differ. wanted: for every item which of them, by place.
    templates: as for `classify`. numbers: see `PerItemReward`. ValueError for concepts or places that cannot
    be used.
    """

    def __init__(
        self,
        model: LatentCLIP,
        concepts: Sequence[str],
        wanted: Sequence[int],
        weight: float = 1.0,
        name: str = "concepts",
        templates: Sequence[str] = ("{}",),
        size_rule: Any = None,
        numbers: Sequence[int] | None = None,
    ) -> None:
        super().__init__(weight, name, model.config.channels, model.config.latent_space)
        self.model, self.size_rule = model, size_rule or model.size_rule
        self.concepts, self.wanted = tuple(concepts), tuple(wanted)
        self.numbers = tuple(range(len(self.wanted)) if numbers is None else numbers)
        if not all(0 <= place < len(self.concepts) for place in self.wanted):
            raise ValueError(
                f"the concepts wanted are {list(self.wanted)}; expected places in {list(self.concepts)}, "
                f"from 0 to {len(self.concepts) - 1}"
            )
        if len(self.numbers) != len(self.wanted):
            raise ValueError(f"{len(self.wanted)} concepts are wanted for {len(self.numbers)} items")
        require_distinct(model, self.concepts, templates)
        with torch.no_grad():
            self.anchors = choice_embeddings(model, self.concepts, templates).detach()

    def take(self, rows: Sequence[int]) -> None:
        self.wanted = tuple(self.wanted[row] for row in rows)

    def score(self, latents: Tensor) -> Tensor:
        embedding = self.model.encode_latents(latents, size_rule=self.size_rule)
        anchors = usable_for_backward(self.anchors).to(embedding)
        odds = (self.model.logit_scale * embedding @ anchors.T).log_softmax(-1)
        own = torch.tensor(self.wanted, device=odds.device)
        return PUBLISHED_CLIP_SCALE * odds.gather(1, own[:, None])[:, 0]
