"""Noise search: improve latents by optimising the noise that they start from (ReNO)."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io

from .draw import curves, sheets
from .host import ksampler as host_ksampler
from .host import models, sockets
from .host import sampling as host_sampling
from .host.feedback import say, shown
from .host.search_widgets import sampler_input, scheduler_input, search_inputs, settings_of

REWARD_HINT = "What is good: wire a Text Reward, or several chained. Higher is better."


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
                sockets.LATENT_REWARD.Input("reward", tooltip=REWARD_HINT),
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
        reward: models.WiredReward,
        sampler_name: str,
        checkpointing: str,
        held_out: models.WiredReward | None = None,
        **widgets: Any,
    ) -> io.NodeOutput:
        settings = settings_of(**widgets)
        return io.NodeOutput(
            host_sampling.NoiseSearch(
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
                io.Model.Input("model", tooltip="The model that makes the latents, as for KSampler."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Seed of the noise that the search starts from, 0 to 2^64 - 1, as for KSampler.",
                ),
                io.Int.Input(
                    "steps",
                    default=1,
                    min=1,
                    max=10000,
                    tooltip="Steps per render, 1 to 4: each multiplies time and memory. The default, 1, "
                    "suits SDXL-Turbo.",
                ),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Classifier-free guidance. 1, the default, is for distilled models and costs "
                    "half; others want 3 to 8.",
                ),
                sampler_input(),
                scheduler_input(),
                io.Conditioning.Input("positive", tooltip="The prompt: what to include, as for KSampler."),
                io.Conditioning.Input("negative", tooltip="What to leave out; unused where cfg is 1."),
                io.Latent.Input(
                    "latent_image", tooltip="The latent to render from: empty, or a picture for img2img."
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of noise, 0.01 to 1. 1, the default, renders from noise alone; below, the "
                    "structure of the latent image is kept, as for KSampler.",
                ),
                sockets.LATENT_REWARD.Input("reward", tooltip=REWARD_HINT),
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
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        positive: Any,
        negative: Any,
        latent_image: dict[str, Any],
        denoise: float,
        reward: models.WiredReward,
        checkpointing: str,
        held_out: models.WiredReward | None = None,
        **widgets: Any,
    ) -> io.NodeOutput:
        tell = partial(say, cls.hidden.unique_id)
        settings = settings_of(**widgets)
        found = host_ksampler.search_noise(
            host_sampling.NoiseSearch(reward, sampler_name, settings, checkpointing, held_out, tell=tell),
            host_ksampler.Stage(model, positive, negative, cfg, seed, steps, scheduler, denoise),
            latent_image,
        )
        histories = [result.history for result in found.outcome.results]
        chart = curves.search_curves(histories, found.outcome.hacked_since)
        cautions = [*reward.cautions, *(held_out.cautions if held_out else ())]
        return io.NodeOutput(
            found.best,
            found.initial,
            found.noise,
            found.outcome.gather("best_reward").tolist(),
            chart,
            ui=shown(sheets.with_cautions(chart, cautions)),
        )
