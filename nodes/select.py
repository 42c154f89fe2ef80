"""Choosing the best latents of a batch by a reward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from .. import lclip
from ..lclip.latents.items import finite_items, item_by_item
from ..lclip.scoring import all_alike, too_many
from . import draw, host
from .host import sockets
from .host.feedback import shown_if
from .latents import item_numbers, numbers_of, samples_of, seeds_of, take_items

KEEP_BY = ("k", "threshold", "both")


class Select(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_Select",
            is_output_node=True,
            display_name="Select Best Latents",
            category="latent-clip",
            description="Keeps the k latents of a batch that a reward likes best, or all that are good "
            "enough, before anything is decoded. The others leave by the second socket.",
            search_aliases=[
                "best of n",
                "pick best",
                "rank latents",
                "top k",
                "filter batch",
                "cherry pick",
                "sort",
                "rank",
                "cull",
                "rating",
                "quality",
                "diversity",
            ],
            inputs=[
                io.Latent.Input("latent", tooltip="A batch of clean latents, such as a sampler's output."),
                sockets.LATENT_REWARD.Input(
                    "reward",
                    tooltip="What is good: wire a Text Reward, or several chained. The higher the reward, "
                    "the better.",
                ),
                io.Int.Input(
                    "k",
                    default=1,
                    min=1,
                    max=4096,
                    tooltip="How many items to keep, 1 (the default: the best one) to the size of the batch. "
                    "Where there are fewer, all are kept, and the node says so.",
                ),
                io.Combo.Input(
                    "keep_by",
                    options=list(KEEP_BY),
                    default="k",
                    optional=True,
                    tooltip="k, the default: the k best. threshold: all whose reward reaches it, which may "
                    "be none. both: of these at most k.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.3,
                    min=-1000.0,
                    max=1000.0,
                    step=0.01,
                    optional=True,
                    tooltip="With keep_by threshold or both: the reward that is good enough. 0.3, the "
                    "default, is a good match for one Text Reward of weight 1.",
                ),
                io.Boolean.Input(
                    "sort",
                    default=True,
                    optional=True,
                    tooltip="on, the default: best first. off: in the order of the batch.",
                ),
                io.Float.Input(
                    "variety",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="How much the kept should differ from each other, 0 to 1. 0, the default, "
                    "looks at the reward alone, 1 at the difference alone, after the best.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    optional=True,
                    force_input=True,
                    control_after_generate=False,
                    tooltip="Wire the seed that the batch was sampled with, and captions and seeds tell it.",
                ),
                sockets.show_input(" The socket grid gives its picture all the same."),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="best",
                    tooltip="Who is kept, best first. Masks and batch indices stay with their items. Where "
                    "none is, what hangs on this socket does not run.",
                ),
                io.Latent.Output(
                    display_name="rest",
                    tooltip="The others, in their order. Where none is left, what hangs on this socket does "
                    "not run.",
                ),
                io.Float.Output(
                    display_name="scores",
                    is_output_list=True,
                    tooltip="The reward of every item that came in, in the order it came in. It has no fixed "
                    "range: compare within a batch.",
                ),
                io.String.Output(
                    display_name="pick_list",
                    tooltip="The kept items' places in the batch, from 0, best first.",
                ),
                io.Float.Output(
                    display_name="kept_scores",
                    is_output_list=True,
                    tooltip="The reward of every kept item, in their order.",
                ),
                io.Int.Output(
                    display_name="indices",
                    is_output_list=True,
                    tooltip="The kept items' places in the batch that came in, from 0, in their order.",
                ),
                io.Int.Output(
                    display_name="seeds",
                    is_output_list=True,
                    tooltip="The seed of every kept item: what Race KSampler wrote of it, or the one wired "
                    "in. Where one is not known, what hangs on this socket does not run.",
                ),
                io.String.Output(
                    display_name="captions",
                    is_output_list=True,
                    tooltip="One text for every kept item, such as 0.312 seed 7 no 3: its reward, seed if "
                    "known, and number in the batch that was sampled. Fit for filename_prefix.",
                ),
                io.Float.Output(
                    display_name="diversity",
                    tooltip="How unlike the kept are: mean distance of their embeddings, 0 for one or for "
                    "all alike. NaN where the reward asks no Latent-CLIP.",
                ),
                io.Image.Output(
                    display_name="grid",
                    tooltip="All items with their rewards, the kept ones framed; rough previews.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        latent: dict[str, Any],
        reward: host.models.WiredReward,
        k: int,
        keep_by: str = "k",
        threshold: float = 0.3,
        sort: bool = True,
        variety: float = 0.0,
        seed: int | None = None,
        show: bool = True,
    ) -> io.NodeOutput:
        samples = samples_of(latent)
        reward = reward.of_batch(len(samples), numbers_of(latent))
        cautions = reward.check(samples)
        values = host.memory.to_host(reward.ready(samples)(samples))
        embeddings = _embeddings(reward, samples) if variety else None
        if variety and embeddings is None:
            raise ValueError(
                f"variety is {variety}, which compares embeddings, and this reward asks no Latent-CLIP. Set "
                "variety to 0, or add a Text Reward to it."
            )
        by_k, by_value = keep_by != "threshold", keep_by != "k"
        found = lclip.pick(
            values, k if by_k else None, threshold if by_value else None, sort, variety, embeddings
        )
        kept = found.kept
        cautions += doubts(values, k, keep_by, variety, len(kept))
        labels = Labels.of(latent, seed)
        previews = host.memory.to_host(host.spaces.preview(samples, reward.space))
        return io.NodeOutput(
            take_items(latent, kept) if kept else sockets.nothing(),
            take_items(latent, found.rest) if found.rest else sockets.nothing(),
            values.tolist(),
            ", ".join(str(index) for index in kept),
            values[kept].tolist() or [sockets.nothing()],
            kept or [sockets.nothing()],
            labels.seeds(kept) or [sockets.nothing()],
            [labels.caption(index, float(values[index])) for index in kept] or [sockets.nothing()],
            _diversity(reward, samples[kept]),
            draw.sheets.pick_sheet(previews, values, kept, most=len(values)),
            ui=shown_if(show, lambda: draw.sheets.pick_sheet(previews, values, kept, cautions)),
        )


@dataclass(frozen=True)
class Labels:
    """What is known of a batch's items: the number that each has in the batch that was sampled, its seed."""

    numbers: Sequence[int]
    known: Sequence[int | None]

    @classmethod
    def of(cls, latent: dict[str, Any], seed: int | None) -> Labels:
        numbers = item_numbers(latent)
        return cls(numbers, seeds_of(latent) if seed is None else [seed] * len(numbers))

    def seeds(self, indices: Sequence[int]) -> list[int]:
        """The seeds of these items; none where one is not known."""
        found = [seed for index in indices if (seed := self.known[index]) is not None]
        return found if len(found) == len(indices) else []

    def caption(self, index: int, value: float) -> str:
        """Such as "0.312 seed 7 no 3"."""
        known = self.known[index]
        seed = "" if known is None else f" seed {known}"
        return f"{value:.3f}{seed} no {self.numbers[index]}"


def doubts(values: Tensor, k: int, keep_by: str, variety: float, kept: int) -> list[str]:
    """What to say of a choice, in words. kept: how many it kept."""
    told = []
    if keep_by == "k" and (text := too_many(k, len(values))) is not None:
        told.append(text)
    if not all_alike(values):
        return told
    if keep_by == "threshold" or not kept:
        what = "all rewards are equal: the threshold keeps all of them or none"
    elif variety:
        what = "all rewards are equal: variety alone chooses"
    else:
        what = "all rewards are equal, so they choose nothing: the first are kept"
    return [*told, f"{what}. Check the reward."]


def _embeddings(reward: host.models.WiredReward, samples: Tensor) -> Tensor | None:
    """[B, D] by the reward's own Latent-CLIP, or None where it asks none. NaN for a broken item.

    Where the reward has just asked it about the same items, it remembers them.
    """
    if reward.eyes is None:
        return None
    model = reward.eyes.ready(samples)
    return host.memory.to_host(item_by_item(model.encode_latents, samples))


def _diversity(reward: host.models.WiredReward, kept: Tensor) -> float:
    """How unlike the kept are; NaN where the reward asks no Latent-CLIP."""
    if reward.eyes is None:
        return math.nan
    kept = kept[finite_items(kept)]
    embeddings = _embeddings(reward, kept) if len(kept) > 1 else None
    return 0.0 if embeddings is None else lclip.diversity(embeddings)
