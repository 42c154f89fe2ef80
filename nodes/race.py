"""Races: many candidates start, and those that fall behind are dropped before they are paid for."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io

from .. import lclip
from ..lclip.choosing.types import METHODS
from . import draw, host
from .host import sockets
from .host.choices import parted
from .host.feedback import say, shown_after_previews
from .host.search_widgets import sampler_input, stage_inputs

DEFAULTS = lclip.RaceSettings()
ALIASES = ["best of n", "race", "prune seeds", "search over seeds", "inference time scaling", "cherry pick"]


def _race_inputs() -> list[Any]:
    """The widgets that both nodes share."""
    return [
        io.Int.Input(
            "candidates",
            default=DEFAULTS.candidates,
            min=2,
            max=4096,
            tooltip="How many start for every latent, 2 or more: your own seed and fresh ones. 16 by "
            "default.",
        ),
        io.String.Input(
            "checks",
            default="0.3, 0.6",
            tooltip="Where in the schedule they are judged, as shares of the steps between 0 and 1. 0.3, "
            "0.6, the default, judges after 30 % and 60 %.",
        ),
        io.Float.Input(
            "keep",
            default=DEFAULTS.keep,
            min=0.01,
            max=1.0,
            step=0.05,
            tooltip="The share that each check, or the drafts, leave in, 0.01 to 1. 0.25, the default, "
            "leaves 4 of 16, then 1: 40 % of the passes through the model.",
        ),
        io.Int.Input(
            "finish",
            default=DEFAULTS.finish,
            min=1,
            max=4096,
            tooltip="How many leave the race in the end, best first. 1 by default; at most the number of "
            "candidates.",
        ),
        sockets.advanced(
            io.Combo.Input(
                "method",
                options=list(METHODS),
                default=DEFAULTS.method,
                tooltip="prune, the default, drops the losers and saves their passes. resample puts copies "
                "of the winners in their place, which a stochastic sampler parts again (Feynman-Kac "
                "steering). draft samples all in a few steps first, and only the best of these drafts in "
                "all; checks then count for nothing.",
            )
        ),
        sockets.advanced(
            io.Float.Input(
                "strength",
                default=DEFAULTS.strength,
                min=0.01,
                max=100.0,
                step=0.1,
                tooltip="With resample: how much a reward counts that is one standard deviation above the "
                "others. 2 by default.",
            )
        ),
        sockets.advanced(
            io.Int.Input(
                "draft_steps",
                default=DEFAULTS.draft_steps,
                min=1,
                max=10000,
                optional=True,
                tooltip="With draft: the steps of a draft, 1 or more and fewer than those of the schedule. 3 "
                "by default: 16 drafts and 4 pictures of 20 steps are 40 % of the passes.",
            )
        ),
    ]


def _settings(checks: str, **widgets: Any) -> lclip.RaceSettings:
    """Widgets -> settings. ValueError for checks that are no numbers."""
    try:
        shares = tuple(float(part) for part in parted(checks))
    except ValueError:
        raise ValueError(
            f"checks is {checks!r}; expected shares of the steps between 0 and 1, such as 0.3, 0.6"
        ) from None
    return lclip.RaceSettings(checks=shares, **widgets)


class Race(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_Race",
            hidden=[io.Hidden.unique_id],
            display_name="Race Sampler",
            category="latent-clip/sampling",
            description="A sampler for SamplerCustom and SamplerCustomAdvanced that starts many candidates, "
            "judges their predicted pictures on the way and drops those that fall behind. It needs no "
            "gradient: quantised models will do.",
            search_aliases=ALIASES,
            inputs=[
                sockets.LATENT_REWARD.Input("reward", tooltip=sockets.REWARD_HINT),
                sampler_input(gradients=False),
                *_race_inputs(),
            ],
            outputs=[
                io.Sampler.Output(display_name="sampler", tooltip="Wire it into SamplerCustom(Advanced).")
            ],
        )

    @classmethod
    def execute(
        cls,
        reward: host.models.WiredReward,
        sampler_name: str,
        checks: str,
        draft_steps: int = DEFAULTS.draft_steps,
        **widgets: Any,
    ) -> io.NodeOutput:
        tell = partial(say, cls.hidden.unique_id)
        settings = _settings(checks, draft_steps=draft_steps, **widgets)
        return io.NodeOutput(host.race.RaceSampler(reward, sampler_name, settings, tell))


class RaceKSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_RaceKSampler",
            has_intermediate_output=True,  # the chart stays on the node when the result is cached
            hidden=[io.Hidden.unique_id],
            display_name="Race KSampler",
            category="latent-clip/sampling",
            description="KSampler that starts many seeds, judges their predicted pictures on the way and "
            "drops those that fall behind. It takes 40 % of the passes of best of 16, and on the mini world "
            "it keeps 80 % of its gain in reward by default, 96 % by method draft. It needs no gradient.",
            search_aliases=[*ALIASES, "ksampler"],
            inputs=[
                *stage_inputs(
                    20,
                    steps="Steps of the schedule, as for KSampler; 20 by default. With one step nothing "
                    "can be dropped.",
                    seed="Seed of the first candidate, 0 to 2^64 - 1, as for KSampler; the others' seeds "
                    "follow from it.",
                    gradients=False,
                ),
                sockets.LATENT_REWARD.Input("reward", tooltip=sockets.REWARD_HINT),
                *_race_inputs(),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="best",
                    tooltip="Who finished, best first. Of a batch: the best of every item, then every second "
                    "best.",
                ),
                io.Noise.Output(
                    display_name="noise",
                    is_output_list=True,
                    tooltip="One for every rank: SamplerCustomAdvanced makes the same latents of it, with "
                    "the same sampler and sigmas. Not with resample; of a batch with a stochastic sampler "
                    "only the first.",
                ),
                io.Float.Output(
                    display_name="rewards", is_output_list=True, tooltip="The reward of every latent in best."
                ),
                io.Int.Output(
                    display_name="seeds",
                    is_output_list=True,
                    tooltip="The seed of every latent in best: KSampler makes the same of it, but not with "
                    "resample.",
                ),
                io.Float.Output(
                    display_name="saved",
                    tooltip="The share of the passes through the model that was saved, at most 1; below 0 "
                    "where drafts cost more than they save.",
                ),
                io.String.Output(
                    display_name="report", tooltip="Every check in words: who was in, and with what reward."
                ),
                io.Image.Output(
                    display_name="chart", tooltip="The reward of every candidate at every check."
                ),
                io.Int.Output(display_name="places", is_output_list=True, tooltip=sockets.PLACES_HINT),
                io.String.Output(display_name="checks", tooltip=sockets.CHECKS_HINT),
            ],
        )

    @classmethod
    def execute(
        cls,
        sampler_name: str,
        latent_image: dict[str, Any],
        reward: host.models.WiredReward,
        checks: str,
        draft_steps: int = DEFAULTS.draft_steps,
        **widgets: Any,
    ) -> io.NodeOutput:
        tell, stage = partial(say, cls.hidden.unique_id), host.ksampler.Stage.taken_from(widgets)
        cautions = reward.cautions
        found = host.ksampler.run_race(
            host.race.RaceSampler(
                reward, sampler_name, _settings(checks, draft_steps=draft_steps, **widgets), tell
            ),
            stage,
            latent_image,
        )
        result = found.result
        chart = draw.races.race_chart(result)
        return io.NodeOutput(
            found.best,
            found.noises,
            result.rewards.tolist(),
            result.seeds,
            result.saved,
            draw.races.race_report(result),
            chart,
            result.places,
            draw.races.checks_as_json(result),
            ui=shown_after_previews(
                draw.sheets.with_cautions(chart, [*cautions, *draw.races.race_cautions(result)])
            ),
        )
