"""How often concepts are in a batch, and how far that is from a target."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from .. import lclip
from ..lclip.choosing.questions import labels_of, questions_in, targets_of
from . import draw, host
from .host import sockets
from .host.concept_widgets import concepts_input, margin_input, target_input
from .host.feedback import shown
from .latents import about, samples_of


class ConceptShares(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_Shares",
            is_output_node=True,
            display_name="Concept Shares",
            category="latent-clip",
            description="How often each of some concepts is in a batch of latents, with intervals, and how "
            "far the shares are from a target. They say what a CLIP sees, nothing about persons.",
            search_aliases=["bias", "fairness", "diversity", "distribution", "statistics", "count"],
            is_input_list=True,
            inputs=[
                sockets.LATENT_CLIP.Input("latent_clip", tooltip="The Latent-CLIP that judges."),
                io.Latent.Input(
                    "latent",
                    tooltip="A batch of clean latents, the more the surer. A list of several batches, of any "
                    "size, counts as one.",
                ),
                concepts_input(),
                target_input(),
                margin_input(),
                io.Latent.Input(
                    "examples",
                    optional=True,
                    tooltip="Clean latents whose truth you know, such as encoded pictures, some of each "
                    "concept: the shares are then corrected for how often one is taken for another.",
                ),
                io.String.Input(
                    "labels",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="What the examples show: a line for each with its concept, in their order; 10 * "
                    "a cat stands for ten lines. With several questions parted by |. Empty by default.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent", is_output_list=True, tooltip="The latents, unchanged."
                ),
                io.String.Output(
                    display_name="shares",
                    tooltip="Every question's shares as JSON: hard (of the clear), soft (mean probability), "
                    "corrected (by examples), intervals, unclear items, distance.",
                ),
                io.Float.Output(
                    display_name="distance",
                    tooltip="Total variation to the target, 0 to 1; of several questions the largest.",
                ),
                io.Image.Output(display_name="chart", tooltip="Shares with intervals beside the target."),
                io.String.Output(
                    display_name="csv", tooltip="The shares as a table, one line for each concept."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        latent_clip: list[host.models.LoadedLatentCLIP],
        latent: list[dict[str, Any]],
        concepts: list[str],
        target: Sequence[str] = ("",),
        margin: Sequence[float] = (0.1,),
        examples: Sequence[dict[str, Any]] = (),
        labels: Sequence[str] = ("",),
    ) -> io.NodeOutput:
        loaded, asked = latent_clip[0], questions_in(concepts)
        batches = [samples_of(each) for each in latent]
        cautions = _only_first(latent_clip=latent_clip, margin=margin)
        cautions += [text for samples in batches for text in loaded.check(samples)]
        aims = targets_of("\n".join(target), len(asked))
        model = loaded.ready(max(batches, key=Tensor.numel))
        with about("examples"):
            known = [samples_of(each) for each in examples]
            tables, doubts = _confusions(loaded, known, "\n".join(labels), asked, margin[0])
        cautions += [text for each in known for text in loaded.cautions_of_examples(each, "examples")]
        cautions += doubts
        found = [
            lclip.shares(model, batches, names, aim, margin=margin[0], confusion=table)
            for names, aim, table in zip(asked, aims, tables, strict=True)
        ]
        cautions += loaded.cautions(texts=[name for names in asked for name in names])
        chart = draw.share_chart.share_chart(found)
        head, *_ = found[0].to_csv().splitlines()
        lines = [line for each in found for line in each.to_csv().splitlines()[1:]]
        return io.NodeOutput(
            latent,
            json.dumps([each.as_json() for each in found], indent=1),
            max(each.distance for each in found),
            chart,
            "\n".join([head, *lines]) + "\n",
            ui=shown(draw.sheets.with_cautions(chart, list(dict.fromkeys(cautions)))),
        )


def _only_first(**lists: Sequence[Any]) -> list[str]:
    """What to say of inputs of which one is read, where several that differ came."""
    return [
        f"{name} came as a list of {len(values)}: the first counts, for all."
        for name, values in lists.items()
        if any(value is not values[0] and value != values[0] for value in values)
    ]


def _confusions(
    loaded: host.models.LoadedLatentCLIP,
    examples: Sequence[Tensor],
    labels: str,
    asked: Sequence[Sequence[str]],
    margin: float,
) -> tuple[list[Tensor | None], list[str]]:
    """How often each question's concepts are taken for each other, by examples; None where there are none, or
    where they tell nothing, which is said."""
    from ..lclip.choosing.confusion import tells_apart

    if not examples and not labels.strip():
        return [None] * len(asked), []
    truths = labels_of(labels, asked, sum(map(len, examples)))
    tables: list[Tensor | None] = []
    doubts = []
    for names, truth in zip(asked, truths, strict=True):
        parts = [lclip.classify(loaded.ready(samples), samples, names) for samples in examples]
        table = lclip.confusion(torch.cat(parts), truth, margin, names, counts=True)
        apart = tells_apart(table)
        tables.append(table if apart else None)
        if not apart:
            doubts.append(
                f"the examples of {' | '.join(names)} look alike to this Latent-CLIP, so that nothing is "
                "corrected by them. Check labels, or word the concepts otherwise."
            )
    return tables, doubts
