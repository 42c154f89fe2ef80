"""Noise search: improve latents by optimising the noise that they start from (ReNO)."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io

from . import draw, host
from .host import sockets
from .host.feedback import say, shown_after_previews
from .host.search_widgets import sampler_input, search_inputs, settings_of, stage_inputs


class ReNOSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_ReNOSampler",
            hidden=[io.Hidden.unique_id],
            display_name="ReNO Sampler",
            category="latent-clip/sampling",
            description="A sampler for SamplerCustom and SamplerCustomAdvanced that searches better noise: "
            "it renders again and again and follows the reward's gradient. Made for models of 1 to 4 steps.",
            search_aliases=[
                "reno",
                "reward noise optimization",
                "noise search",
                "optimize seed",
                "initial noise",
            ],
            inputs=[
                sockets.LATENT_REWARD.Input("reward", tooltip=sockets.REWARD_HINT),
                sampler_input(),
                *search_inputs(),
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
        checkpointing: str,
        held_out: host.models.WiredReward | None = None,
        **widgets: Any,
    ) -> io.NodeOutput:
        settings = settings_of(**widgets)
        return io.NodeOutput(
            host.sampling.NoiseSearch(
                reward,
                sampler_name,
                settings,
                checkpointing,
                held_out,
                tell=partial(say, cls.hidden.unique_id),
            )
        )


class ReNO(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_ReNO",
            has_intermediate_output=True,  # the curve stays on the node when the result is cached
            hidden=[io.Hidden.unique_id],
            display_name="ReNO KSampler",
            category="latent-clip/sampling",
            description="KSampler that searches better noise for a reward (ReNO). The defaults suit one-step "
            "models such as SDXL-Turbo.",
            search_aliases=[
                "reno",
                "reward noise optimization",
                "noise search",
                "optimize seed",
                "ksampler",
                "improve image",
            ],
            inputs=[
                *stage_inputs(
                    1,
                    steps="Steps per render, 1 to 4: each multiplies time and memory. The default, 1, suits "
                    "SDXL-Turbo.",
                    seed="Seed of the noise that the search starts from, 0 to 2^64 - 1, as for KSampler.",
                ),
                sockets.LATENT_REWARD.Input("reward", tooltip=sockets.REWARD_HINT),
                *search_inputs(),
            ],
            outputs=[
                io.Latent.Output(display_name="best", tooltip="The best render of every item."),
                io.Latent.Output(display_name="initial", tooltip="What KSampler gives for this seed."),
                io.Noise.Output(
                    display_name="best_noise",
                    tooltip="The noise of the best renders, for SamplerCustomAdvanced with the same sampler "
                    "and sigmas.",
                ),
                io.Float.Output(
                    display_name="best_reward", is_output_list=True, tooltip="The best reward of every item."
                ),
                io.Image.Output(
                    display_name="curve", tooltip="Reward per render, with parts and held-out reward."
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="How the search of every item ended: whether it reached the target or its budget "
                    "ended, after how many renders, and with what reward.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        sampler_name: str,
        latent_image: dict[str, Any],
        reward: host.models.WiredReward,
        checkpointing: str,
        held_out: host.models.WiredReward | None = None,
        **widgets: Any,
    ) -> io.NodeOutput:
        tell, stage = partial(say, cls.hidden.unique_id), host.ksampler.Stage.taken_from(widgets)
        settings = settings_of(**widgets)
        search = host.sampling.NoiseSearch(reward, sampler_name, settings, checkpointing, held_out, tell)
        found = host.ksampler.search_noise(search, stage, latent_image)
        chart = draw.curves.search_curves(found.outcome.histories, found.outcome.hacked_since)
        return io.NodeOutput(
            found.best,
            found.initial,
            found.noise,
            found.outcome.gather("best_reward").tolist(),
            chart,
            found.outcome.report,
            ui=shown_after_previews(
                draw.sheets.with_cautions(chart, [*search.cautions, *found.outcome.notes])
            ),
        )
