"""How often concepts are in a batch, and how far that is from a target."""

from __future__ import annotations

import json
from typing import Any

from comfy_api.latest import io

from .. import lclip
from . import draw
from .host import models, sockets
from .host.feedback import shown
from .latents import samples_of


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
            inputs=[
                sockets.LATENT_CLIP.Input("latent_clip", tooltip="The Latent-CLIP that judges."),
                io.Latent.Input("latent", tooltip="A batch of clean latents, the more the surer."),
                io.String.Input(
                    "concepts",
                    multiline=True,
                    default="",
                    tooltip="What is told apart. One question a line, its concepts parted by |, such as a "
                    "cat | a dog; or one concept a line, where there is no |.",
                ),
                io.String.Input(
                    "target",
                    default="",
                    optional=True,
                    tooltip="The shares that are wanted, such as 0.5 | 0.5, for every question. Empty, the "
                    "default: all alike.",
                ),
                io.Float.Input(
                    "margin",
                    default=0.1,
                    min=0.0,
                    max=0.99,
                    step=0.01,
                    optional=True,
                    tooltip="By how much in probability the likeliest must lead, 0 to 0.99; else the item is "
                    "unclear. 0.1 by default.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The latents, unchanged."),
                io.String.Output(
                    display_name="shares",
                    tooltip="Every question's shares as JSON: hard (of the clear), soft (mean probability), "
                    "intervals, unclear items, distance.",
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
        latent_clip: models.LoadedLatentCLIP,
        latent: dict[str, Any],
        concepts: str,
        target: str = "",
        margin: float = 0.1,
    ) -> io.NodeOutput:
        samples = samples_of(latent)
        cautions = latent_clip.check(samples)
        model, asked = latent_clip.ready(samples), questions_of(concepts)
        aims = target_of(target)
        found = [lclip.shares(model, samples, names, aims, margin=margin) for names in asked]
        cautions += latent_clip.cautions(texts=[name for names in asked for name in names])
        chart = draw.share_chart.share_chart(found)
        head, *_ = found[0].to_csv().splitlines()
        lines = [line for each in found for line in each.to_csv().splitlines()[1:]]
        return io.NodeOutput(
            latent,
            json.dumps([each.as_json() for each in found], indent=1),
            max(each.distance for each in found),
            chart,
            "\n".join([head, *lines]) + "\n",
            ui=shown(draw.sheets.with_cautions(chart, cautions)),
        )


def questions_of(text: str) -> list[list[str]]:
    """The concepts of every question. ValueError where there are fewer than two."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    rows = [line.split("|") for line in lines] if any("|" in line for line in lines) else [lines]
    questions = [[name.strip() for name in row if name.strip()] for row in rows]
    if not all(len(names) > 1 for names in questions):
        raise ValueError(
            f"concepts is {text!r}; expected two concepts or more for each question, such as a cat | a dog"
        )
    return questions


def target_of(text: str) -> list[float] | None:
    """Shares parted by |, or None for an empty text. ValueError for what is no number."""
    if not text.strip():
        return None
    try:
        return [float(part) for part in text.split("|")]
    except ValueError:
        raise ValueError(f"target is {text!r}; expected shares parted by |, such as 0.5 | 0.5") from None
