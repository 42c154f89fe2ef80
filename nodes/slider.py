"""A slider: one seed gives a series of pictures along an axis between two texts, or two groups of latents."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io

from .. import lclip
from . import draw, host
from .host import sockets
from .host.choices import SLIDES
from .host.feedback import say, shown_after_previews
from .host.search_widgets import checkpointing_input, stage_inputs
from .latents import about, samples_of

DEFAULTS = lclip.SlideSettings()
ENDS = ("less", "more")


def _range_inputs() -> list[Any]:
    return [
        io.Int.Input(
            "positions",
            default=DEFAULTS.positions,
            min=2,
            max=100,
            tooltip="How many pictures the series has, 2 or more, evenly spread over the range. 7 by "
            "default; an odd number has the start in its middle.",
        ),
        io.Float.Input(
            "low",
            default=DEFAULTS.low,
            min=-4.0,
            max=4.0,
            step=0.05,
            tooltip="Where the series begins, relative to the start: below 0 is nearer to less. "
            f"{DEFAULTS.low:g} by default; 1 is as far as from the middle to an end itself.",
        ),
        io.Float.Input(
            "high",
            default=DEFAULTS.high,
            min=-4.0,
            max=4.0,
            step=0.05,
            tooltip="Where the series ends, relative to the start: above 0 is nearer to more. "
            f"{DEFAULTS.high:g} by default; above low.",
        ),
        io.Combo.Input(
            "method",
            options=list(SLIDES),
            default="auto",
            tooltip="noise finds another noise for each picture, each from its neighbour's (ReNO); the model "
            "must pass gradients. guidance moves the predicted picture in every step, and works with every "
            "model. auto, the default: noise up to 4 steps, guidance above.",
        ),
        io.Float.Input(
            "anchor",
            default=DEFAULTS.anchor,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="How firmly all stays as in the start that is no part of the axis, 0 to 1. "
            f"{DEFAULTS.anchor:g} by default; 0 lets it go, 1 holds it as much as the slider moves.",
        ),
        io.Int.Input(
            "iterations",
            default=DEFAULTS.iterations,
            min=2,
            max=1000,
            tooltip="With noise: renders for each picture but the start; time grows with them. 10 by "
            "default.",
        ),
        sockets.advanced(
            io.Float.Input(
                "strength",
                default=DEFAULTS.strength,
                min=0.001,
                max=1.0,
                step=0.01,
                tooltip="The longest move at a time, 0.001 to 1, relative to the noise or to the "
                "predicted picture. 0.1 by default; less is slower and smoother.",
            )
        ),
        sockets.advanced(
            io.Float.Input(
                "end",
                default=DEFAULTS.end,
                min=0.01,
                max=1.0,
                step=0.05,
                tooltip="With guidance: up to which share of the steps, 0.01 to 1. 0.75 by default; the "
                "last ones clean up what moves leave behind.",
            )
        ),
        sockets.advanced(checkpointing_input()),
    ]


def _end_inputs() -> list[Any]:
    """The two groups of latents, which take the place of the texts."""
    return [
        io.Latent.Input(
            f"{end}_latents",
            optional=True,
            tooltip=f"A small group of clean latents that show the end {end}; where it is wired it takes the "
            "place of the text.",
        )
        for end in ENDS
    ]


class Slider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_Slider",
            has_intermediate_output=True,  # the chart stays on the node when the result is cached
            hidden=[io.Hidden.unique_id],
            display_name="Concept Slider",
            category="latent-clip/sampling",
            description="KSampler that gives a series of pictures along an axis, such as from small to "
            "large, from one seed, while the rest of the picture stays.",
            search_aliases=["concept slider", "slider", "attribute", "edit direction", "sweep", "ksampler"],
            inputs=[
                *stage_inputs(
                    1,
                    steps="Steps per render, as for KSampler. 1, the default, suits SDXL-Turbo; 20 or so "
                    "suit other models, by guidance.",
                    seed="Seed of the start, 0 to 2^64 - 1, as for KSampler.",
                ),
                sockets.LATENT_CLIP.Input("latent_clip", tooltip="The Latent-CLIP that measures."),
                io.String.Input(
                    "less",
                    multiline=True,
                    default="",
                    tooltip="What the picture is at the low end, best the prompt with another word: a small "
                    "house. Several lines are averaged; empty by default.",
                ),
                io.String.Input(
                    "more",
                    multiline=True,
                    default="",
                    tooltip="What the picture is at the high end: a large house. Several lines are averaged; "
                    "empty by default.",
                ),
                *_range_inputs(),
                *_end_inputs(),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="series",
                    tooltip="The pictures from low to high. Of a batch: the first of every item, then the "
                    "next.",
                ),
                io.Float.Output(
                    display_name="position",
                    is_output_list=True,
                    tooltip="Where each is on the axis as measured: -1 is the end less itself, 1 the end "
                    "more.",
                ),
                io.Image.Output(
                    display_name="chart", tooltip="Measured position over the one asked for, from the start."
                ),
                io.Noise.Output(
                    display_name="noise",
                    is_output_list=True,
                    tooltip="One for every position: SamplerCustomAdvanced makes the same picture of it, "
                    "with the model of the same position, the same sampler and sigmas.",
                ),
                io.Model.Output(
                    display_name="model",
                    is_output_list=True,
                    tooltip="One for every position: with guidance the model that is guided there, else the "
                    "model as it came.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="Every picture in words: the position asked for, the one measured, and how like "
                    "the start the rest is (1: the same).",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        latent_image: dict[str, Any],
        latent_clip: host.models.LoadedLatentCLIP,
        sampler_name: str,
        less: str,
        more: str,
        method: str,
        checkpointing: str,
        less_latents: dict[str, Any] | None = None,
        more_latents: dict[str, Any] | None = None,
        **widgets: Any,
    ) -> io.NodeOutput:
        stage = host.ksampler.Stage.taken_from(widgets)
        settings, tell = lclip.SlideSettings(**widgets), partial(say, cls.hidden.unique_id)
        slider, cautions = _slider(latent_clip, (less, more), (less_latents, more_latents))
        wired = host.models.wire_reward(slider, (latent_clip,), cautions)
        if host.slider.method_for(method, stage.steps) == "noise":
            search = host.slider.SliderSearch(wired, slider, sampler_name, settings, checkpointing, tell)
            series = host.slider.by_noise(search, stage, latent_image)
        else:
            series = host.slider.by_guidance(wired, slider, sampler_name, settings, stage, latent_image, tell)
        result = series.result
        chart = draw.slides.slide_chart(result, slider.name)
        return io.NodeOutput(
            series.latent,
            result.positions.flatten().tolist(),
            chart,
            series.noises,
            series.models,
            draw.slides.slide_report(result),
            ui=shown_after_previews(draw.sheets.with_cautions(chart, [*cautions, *result.notes])),
        )


def _slider(
    latent_clip: host.models.LoadedLatentCLIP, texts: tuple[str, str], groups: tuple[Any, Any]
) -> tuple[lclip.SliderReward, list[str]]:
    """The axis, and what is odd about its ends."""
    ends: list[Any] = []
    cautions: list[str] = []
    for which, text, group in zip(ENDS, texts, groups, strict=True):
        if group is None:
            ends.append(text)
            cautions += latent_clip.cautions(texts=[line for line in text.splitlines() if line.strip()])
        else:
            with about(f"{which}_latents"):
                samples = samples_of(group)
                latent_clip.check(samples)
            ends.append(samples)
            cautions += latent_clip.cautions_of_examples(samples, f"{which}_latents")
    shown_to = next((end for end in ends if not isinstance(end, str)), None)
    model = latent_clip.ready(shown_to)
    with host.memory.ordinary_tensors():
        return lclip.SliderReward(model, *ends), cautions
