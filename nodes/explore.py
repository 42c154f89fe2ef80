"""Explorer: a map between corners, of which one cell is chosen."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..lclip.exploring.blending import MOST
from ..lclip.exploring.plan import AUTO, LARGEST, NONE, Plan
from ..lclip.latents.checks import check_shape
from . import draw, host
from .host import sockets
from .host.choices import CORNER_KINDS, parted
from .host.search_widgets import stage_inputs

AXES = [f"{kind} 1-{last}" for kind in CORNER_KINDS for last in range(2, MOST + 1)]
CORNERS = [f"corner_{number}" for number in range(2, MOST + 1)]


class Explore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_Explore",
            is_output_node=True,
            has_intermediate_output=True,
            hidden=[io.Hidden.unique_id],
            display_name="Explore Latents",
            category="latent-clip/sampling",
            description="A map of what lies between seeds, prompts or latents, each cell rendered and scored "
            "for several texts. Click a cell, and its latent and noise come out; choosing another samples "
            "nothing again.",
            search_aliases=[
                "explore",
                "latent walk",
                "interpolate",
                "slerp",
                "xy plot",
                "grid",
                "map",
                "morph",
            ],
            inputs=[
                *stage_inputs(
                    1,
                    steps="Steps for each cell; time grows with them. 1, the default, suits SDXL-Turbo.",
                    seed="Seed of corner 1, 0 to 2^64 - 1, as for KSampler.",
                    gradients=False,
                ),
                sockets.LATENT_CLIP.Input("latent_clip", tooltip="The Latent-CLIP that scores the cells."),
                io.String.Input(
                    "texts",
                    multiline=True,
                    default="",
                    tooltip="What cells are scored for, one text a line: each has a heat of its own.",
                ),
                io.Int.Input(
                    "cells",
                    default=6,
                    min=2,
                    max=LARGEST,
                    tooltip="Cells a side, 2 to 32. 6 by default: 36 renders; with one axis a row of 6.",
                ),
                io.String.Input(
                    "other_seeds",
                    default="1, 2, 3",
                    tooltip="Seeds of the noise at corners 2, 3 and 4, parted by commas; empty: the seed "
                    "alone. 1, 2, 3 by default. Where a NOISE is wired as a corner, they do not count.",
                ),
                sockets.advanced(
                    io.Combo.Input(
                        "x_axis",
                        options=[AUTO, *AXES],
                        default=AUTO,
                        tooltip="What goes to the right, such as noise 1-2, from corner 1 to 2. auto, the "
                        "default: the first axis there is, wired corners before seeds.",
                    )
                ),
                sockets.advanced(
                    io.Combo.Input(
                        "y_axis",
                        options=[AUTO, NONE, *AXES],
                        default=AUTO,
                        tooltip="What goes down. auto, the default: the next axis there is. none: the map is "
                        "one row.",
                    )
                ),
                sockets.advanced(
                    io.String.Input(
                        "elsewhere",
                        default="",
                        tooltip="Where axes stand that are not shown, such as noise 1-3 0.5, prompt 1-2 "
                        "0.25. Empty, the default: at 0, their first corner. The map's button writes the "
                        "chosen cell's place here, to walk on from it along two others.",
                    )
                ),
                sockets.advanced(
                    sockets.switch(
                        "custom_contour",
                        "Whether contour counts. off, the default: the line is drawn halfway between each "
                        "text's lowest and highest score.",
                    )
                ),
                sockets.advanced(
                    io.Float.Input(
                        "contour",
                        default=0.3,
                        min=-1.0,
                        max=1.0,
                        step=0.01,
                        tooltip="With custom_contour: the score at which the line is drawn, -1 to 1. 0.3, "
                        "the default, is a good match.",
                    )
                ),
                io.Int.Input(
                    "column",
                    default=0,
                    min=0,
                    max=LARGEST - 1,
                    tooltip="The chosen cell's column, from 0, the default; a click on the map sets it.",
                ),
                io.Int.Input(
                    "row",
                    default=0,
                    min=0,
                    max=LARGEST - 1,
                    tooltip="The chosen cell's row, from 0, the default; a click on the map sets it.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="Wire it, and the map shows decoded pictures. Without, rough previews: nothing "
                    "is decoded.",
                ),
                *(_corner_input(name) for name in CORNERS),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The chosen cell."),
                io.Noise.Output(
                    display_name="noise",
                    tooltip="Its noise: SamplerCustomAdvanced makes the same latent of it, with the same "
                    "sampler, sigmas, conditioning and latent image.",
                ),
                io.Image.Output(
                    display_name="map",
                    tooltip="The pictures, and a panel with heat, contour and way up per text.",
                ),
                io.Float.Output(
                    display_name="scores",
                    is_output_list=True,
                    tooltip="The chosen cell's score for every text: a cosine, -1 to 1.",
                ),
                io.Conditioning.Output(
                    display_name="positive",
                    tooltip="The chosen cell's prompt: positive, or what lies between.",
                ),
                io.Latent.Output(
                    display_name="latent_image", tooltip="What the chosen cell was rendered from."
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="Where the chosen cell is, its scores, and each text's best cell.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        sampler_name: str,
        latent_image: dict[str, Any],
        latent_clip: host.models.LoadedLatentCLIP,
        texts: str,
        cells: int,
        other_seeds: str,
        x_axis: str,
        y_axis: str,
        elsewhere: str,
        custom_contour: bool,
        contour: float,
        column: int,
        row: int,
        vae: Any = None,
        **others: Any,
    ) -> io.NodeOutput:
        from ..lclip.exploring.explore import check_level, checked_texts, scored
        from .host import map_pictures

        stage, lines = host.ksampler.Stage.taken_from(others), checked_texts(texts.splitlines())
        level = contour if custom_contour else None
        check_level(level)
        host.spaces.check_same_space(stage.model, latent_clip.config)
        if vae is not None:
            host.spaces.check_vae(vae, host.spaces.space_of(stage.model))
        wired = {
            number: others[name] for number, name in enumerate(CORNERS, 2) if others.get(name) is not None
        }
        seeds, doubts = host.explore.parsed_seeds(other_seeds, stage.seed)
        scenery = host.explore.Scenery.of(stage, sampler_name, latent_image, seeds, wired)
        check_shape(scenery.latent["samples"], latent_clip.config)
        plan = Plan.of(scenery.kinds, cells, x_axis, y_axis, ", ".join(parted(elsewhere)))
        live = map_pictures.Live(cls.hidden.unique_id, plan, latent_clip.config.latent_space)
        rendered = host.explore.remembered(scenery, plan, live)
        latents = host.memory.to_host(rendered.latents)
        found = scored(plan, latents, latent_clip.ready(latents), lines, level)
        pictures = map_pictures.pictures_of(rendered, latent_clip.config.latent_space, vae)
        cell = found.cell(column, row)
        cautions = [
            *latent_clip.cautions(latents, lines),
            *doubts, *_doubts(scenery, plan, column, row), *found.notes
        ]  # fmt: skip
        latent, noise, positive, start = rendered.chosen(cell)
        return io.NodeOutput(
            latent,
            noise,
            draw.maps.map_chart(found, pictures, cell),
            found.scores.flatten(1)[:, cell].tolist(),
            positive,
            start,
            "\n".join([draw.maps.map_report(found, cell), *draw.words.cautions(cautions)]),
            ui=map_pictures.shown_map(found, pictures, cautions),
        )


def _corner_input(name: str) -> Any:
    return io.MultiType.Input(
        name,
        types=[io.Conditioning, io.Latent, io.Noise],
        optional=True,
        tooltip="A further corner: a prompt, a latent to render from, or a NOISE. Corner 1 is what this node "
        "is given as KSampler is.",
    )


def _doubts(scenery: host.explore.Scenery, plan: Plan, column: int, row: int) -> list[str]:
    """What may not be as it was meant."""
    doubts = []
    if column >= plan.columns or row >= plan.rows:
        doubts.append(
            f"column {column}, row {row} is beyond the map of {plan.columns} x {plan.rows} cells: the last "
            "one is taken."
        )
    if scenery.stage.denoise == 1 and any(axis.kind == "latent" for axis in (plan.x, plan.y) if axis):
        doubts.append("denoise is 1, so that hardly anything of a latent image is left: lower it.")
    return doubts
