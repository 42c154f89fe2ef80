"""What latents show, without decoding them: scores, classes and heatmaps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from comfy_api.latest import io
from torch import Tensor

from .. import lclip
from . import draw, host
from .host import sockets
from .host.feedback import shown_if
from .latents import samples_of

LATENT_HINT = (
    "A batch of clean latents, such as a sampler's output. They are read as they are, never decoded."
)


class Score(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_Score",
            is_output_node=True,
            display_name="Latent-CLIP Score",
            category="latent-clip",
            description="How well each latent of a batch matches a text: the cosine of both in "
            "Latent-CLIP's space.",
            search_aliases=[
                "clip score",
                "rate latents",
                "rating",
                "quality",
                "text match",
                "prompt adherence",
                "similarity",
            ],  # fmt: skip
            inputs=[
                sockets.LATENT_CLIP.Input("latent_clip", tooltip="The Latent-CLIP that judges."),
                io.Latent.Input("latent", tooltip=LATENT_HINT),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="What the picture should show. Several lines are several texts: an item's score "
                    "is their mean, and the report shows each. Read as typed: (brackets:1.2) have no "
                    "meaning.",
                ),
                sockets.show_input(),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The latents, unchanged."),
                io.Float.Output(
                    display_name="best_score", tooltip="The highest score in the batch: a cosine, -1 to 1."
                ),
                io.Float.Output(
                    display_name="scores",
                    is_output_list=True,
                    tooltip="One score per item: the cosine, -1 to 1. Good matches of the released models "
                    "reach about 0.3.",
                ),
                io.String.Output(
                    display_name="report", tooltip="All values as a table: a row per item, a column per text."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, latent_clip: host.models.LoadedLatentCLIP, latent: dict[str, Any], text: str, show: bool = True
    ) -> io.NodeOutput:
        samples, lines = samples_of(latent), lines_of(text, "text")
        cosines = host.memory.to_host(lclip.similarity(latent_clip.ready(samples), samples, lines))  # [B, T]
        scores, cautions = cosines.mean(1), latent_clip.cautions(samples, lines)
        (best,), _ = lclip.top_k(scores, 1)
        report = score_report(cosines, lines, latent_clip.name, best, cautions)
        picture = shown_if(
            show, lambda: draw.sheets.score_sheet(previews(samples, latent_clip), scores, cautions)
        )
        return io.NodeOutput(latent, float(scores[best]), scores.tolist(), report, ui=picture)


class Classify(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_Classify",
            is_output_node=True,
            display_name="Latent-CLIP Classify",
            category="latent-clip",
            description="Which of several labels fits each latent of a batch best (zero-shot).",
            search_aliases=["zero-shot", "label latents", "clip interrogator", "tag"],
            inputs=[
                sockets.LATENT_CLIP.Input("latent_clip", tooltip="The Latent-CLIP that judges."),
                io.Latent.Input("latent", tooltip=LATENT_HINT),
                io.String.Input(
                    "labels",
                    multiline=True,
                    default="",
                    tooltip="The labels to choose from, one per line: at least two, for a choice. The "
                    "probabilities are among these labels only: add what else it could be.",
                ),
                sockets.advanced(
                    io.String.Input(
                        "templates",
                        multiline=True,
                        default="{}",
                        tooltip='Sentences that the labels are put into at {}, one per line, such as "a '
                        'photo of a {}". With several, their embeddings are averaged. The default is the '
                        "label alone.",
                    )
                ),
                sockets.show_input(" The socket chart gives its pictures all the same."),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The latents, unchanged."),
                io.String.Output(
                    display_name="top_label",
                    is_output_list=True,
                    tooltip="The likeliest label of each item; unreadable for one that holds NaN.",
                ),
                io.Float.Output(
                    display_name="probability",
                    is_output_list=True,
                    tooltip="Its probability among the labels, 0 to 1.",
                ),
                io.Image.Output(
                    display_name="chart",
                    tooltip="One bar chart per item, likeliest label first, at most 20 labels.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        latent_clip: host.models.LoadedLatentCLIP,
        latent: dict[str, Any],
        labels: str,
        templates: str,
        show: bool = True,
    ) -> io.NodeOutput:
        from ..lclip.safety.judge import UNREADABLE
        from ..lclip.scoring import filled, label_doubts

        samples, names = samples_of(latent), lines_of(labels, "labels")
        model, sentences = latent_clip.ready(samples), lines_of(templates, "templates")
        chances = host.memory.to_host(lclip.classify(model, samples, names, sentences))
        best = chances.max(1)
        shares = best.values.tolist()
        tops = [
            UNREADABLE if math.isnan(share) else names[index]
            for index, share in zip(best.indices.tolist(), shares, strict=True)
        ]
        chart = draw.charts.probability_bars(names, chances)
        cautions = latent_clip.cautions(samples, filled(names, sentences))
        cautions += label_doubts(model, names, sentences)

        def sheet() -> Tensor:
            if len(tops) == 1:
                return draw.sheets.with_cautions(chart, cautions)
            return draw.sheets.label_sheet(previews(samples, latent_clip), tops, shares, cautions)

        return io.NodeOutput(latent, tops, shares, chart, ui=shown_if(show, sheet))


class Heatmap(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_Heatmap",
            is_output_node=True,
            display_name="Latent-CLIP Heatmap",
            category="latent-clip",
            description="Where in the picture a text is, as a mask and as an overlay on a preview of the "
            "latents.",
            search_aliases=["attention map", "text mask", "where", "localize", "segment"],
            inputs=[
                sockets.LATENT_CLIP.Input("latent_clip", tooltip="The Latent-CLIP that looks."),
                io.Latent.Input("latent", tooltip=LATENT_HINT),
                io.String.Input(
                    "text",
                    default="",
                    tooltip='What to look for, as one text: a thing rather than a scene, such as "the red '
                    'circle".',
                ),
                sockets.show_input(" The socket overlay gives its pictures all the same."),
            ],
            outputs=[
                io.Mask.Output(
                    display_name="mask",
                    tooltip="Per item, at the picture's size: 1 where the text fits best, 0 where least. It "
                    "compares places of one picture, so something is always bright; Score says whether the "
                    "text is there at all.",
                ),
                io.Image.Output(
                    display_name="overlay",
                    tooltip="The mask in colour, dark blue to yellow, over a rough preview that needs no "
                    "decoding.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, latent_clip: host.models.LoadedLatentCLIP, latent: dict[str, Any], text: str, show: bool = True
    ) -> io.NodeOutput:
        samples = samples_of(latent)
        text = " ".join(lines_of(text, "text"))
        cosines = host.memory.to_host(lclip.heatmap(latent_clip.ready(samples), samples, text))  # [B, h, w]
        broken = cosines.isnan().flatten(1).any(1).nonzero().flatten().tolist()
        mask = spread_out(torch.nan_to_num(at_picture_size(cosines, latent_clip.config)))
        overlay = draw.charts.heat_overlay(previews(samples, latent_clip), mask)
        cautions = latent_clip.cautions(samples, [text])
        picture = shown_if(show, lambda: draw.sheets.heat_sheet(overlay, text, cautions, broken))
        return io.NodeOutput(mask, overlay, ui=picture)


def lines_of(text: str, what: str) -> list[str]:
    """The non-empty lines of a text widget, or ValueError."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"The {what} widget is empty; expected at least one line of text.")
    return lines


def previews(samples: Tensor, latent_clip: host.models.LoadedLatentCLIP) -> Tensor:
    """Rough pictures of a batch, [B, h, w, 3] in 0..1, without decoding."""
    return host.memory.to_host(host.spaces.preview(samples, latent_clip.config.latent_space))


def at_picture_size(maps: Tensor, config: lclip.LatentCLIPConfig) -> Tensor:
    """[B, h, w] on the latent grid -> [B, H, W] in pixels."""
    factor = config.space.factor if config.space else 8
    return F.interpolate(maps[:, None], scale_factor=factor, mode="bilinear", align_corners=False)[:, 0]


def spread_out(maps: Tensor) -> Tensor:
    """Each item's values stretched to 0..1; a map without any difference is 0."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp_min(1e-6)


def score_report(cosines: Tensor, lines: Sequence[str], name: str, best: int, cautions: Sequence[str]) -> str:
    """All scores as a table: a row per item, a column per text and, with several, their mean."""
    means = cosines.mean(1)
    several = len(lines) > 1
    said = draw.words.said
    heads = [f"[{number + 1}]" for number in range(len(lines))] + ([said("mean")] if several else [])
    rows = [said("Latent-CLIP score ({name}): cosine, higher is better", name=name)]
    rows += [f"[{number + 1}] {line}" for number, line in enumerate(lines)]
    rows.append(said("item") + " " + " ".join(f"{head:>8}" for head in heads))
    for index, values in enumerate(cosines.tolist()):
        cells = values + ([float(means[index])] if several else [])
        rows.append(
            f"{index:>4} "
            + " ".join(f"{draw.sheets.number(value):>8}" for value in cells)
            + (f"  {said('best')}" if index == best else "")
        )
    return "\n".join([*rows, *draw.words.cautions(cautions)])
