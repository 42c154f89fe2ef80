"""Noise search: improve latents by optimising the noise that they start from (ReNO)."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io

from .. import lclip
from . import curves, host, host_ksampler, host_sampling
from .host_feedback import say, shown
from .host_gradients import SAMPLERS, SCHEDULERS

REWARD_HINT = "What is good: wire a Text Reward, or several chained. Higher is better."


def sampler_input() -> Any:
    return io.Combo.Input(
        "sampler_name",
        options=list(SAMPLERS),
        default="euler",
        tooltip="The stock sampler that renders; euler by default, as it is exact in one step. Not all pass "
        "gradients; the error names those that do.",
    )


def search_inputs() -> list[Any]:
    """The widgets that both nodes share, the frequent ones first."""
    return [
        io.Int.Input(
            "iterations",
            default=50,
            min=0,
            max=10000,
            tooltip="Renders per search, the first one included; time grows with them. 50, the default, is "
            "published. 0 renders once, plainly.",
        ),
        io.Float.Input(
            "lr",
            default=0.0,
            min=0.0,
            max=1000.0,
            step=0.01,
            tooltip="Learning rate: how far a step goes. 0, the default, takes the optimizer's own: 5 for "
            "sgd (published), 0.02 for adam. Halve it where the curve jumps up and down.",
        ),
        io.Combo.Input(
            "method",
            options=list(lclip.reno_types.METHODS),
            default="gradient",
            tooltip="gradient, the default, is ReNO and gains most per render. Without gradients, for every "
            "sampler and model: zero_order tries neighbours of the best noise so far, best_of_n tries fresh "
            "noise.",
        ),
        host.advanced(
            io.Combo.Input(
                "optimizer",
                options=list(lclip.reno_types.OPTIMIZERS),
                default="sgd",
                tooltip="sgd, the default, with Nesterov momentum 0.9 is published; adam adapts the step to "
                "each element.",
            )
        ),
        host.advanced(
            io.Float.Input(
                "regularization",
                default=0.01,
                min=0.0,
                max=10.0,
                step=0.001,
                tooltip="Pull towards the norm of Gaussian noise, which keeps pictures natural. 0.01, the "
                "default, is published; 0 switches it off.",
            )
        ),
        host.advanced(
            io.Float.Input(
                "grad_clip",
                default=0.1,
                min=0.001,
                max=100.0,
                step=0.01,
                tooltip="Longest gradient per item. 0.1, the default, is published. Together with lr it sets "
                "how far a step goes.",
            )
        ),
        host.advanced(
            io.Int.Input(
                "candidates",
                default=1,
                min=1,
                max=1000,
                tooltip="Screening: this many noises per item are rendered first, your own seed included, "
                "and the search starts from the best. 1, the default, is your seed alone.",
            )
        ),
        host.advanced(
            io.Int.Input(
                "keep",
                default=1,
                min=1,
                max=100,
                tooltip="Screening: how many of the best candidates are searched from, one after the other. "
                "1 by default; at most the number of candidates.",
            )
        ),
        host.advanced(
            io.Int.Input(
                "patience",
                default=0,
                min=0,
                max=10000,
                tooltip="An item stops after this many renders without a new best. 0, the default: never.",
            )
        ),
        host.advanced(
            io.Float.Input(
                "target",
                default=1000.0,
                min=-1000.0,
                max=1000.0,
                step=0.01,
                tooltip="An item stops when its reward reaches this. The default, 1000, is out of reach.",
            )
        ),
        host.advanced(
            io.Combo.Input(
                "checkpointing",
                options=list(host_sampling.CHECKPOINTING),
                default="auto",
                tooltip="Recompute activations instead of keeping them: far less memory, about a third more "
                "time. auto, the default: where memory seems short. on, off: always, never.",
            )
        ),
        host.LATENT_REWARD.Input(
            "held_out",
            optional=True,
            tooltip="A second reward that is only watched. If it falls while the first still rises, the "
            "search is gaming the first; the curve shows both.",
        ),
    ]


def settings_of(
    iterations: int,
    lr: float,
    method: str,
    optimizer: str,
    regularization: float,
    grad_clip: float,
    candidates: int,
    keep: int,
    patience: int,
    target: float,
) -> lclip.ReNOSettings:
    """Widgets -> settings: an lr or patience of 0 stands for "not set"."""
    return lclip.ReNOSettings(
        iterations=iterations,
        lr=lr or None,
        method=method,
        optimizer=optimizer,
        regularization=regularization,
        grad_clip=grad_clip,
        candidates=candidates,
        keep=keep,
        patience=patience or None,
        target=target,
    )


class ReNOSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
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
                host.LATENT_REWARD.Input("reward", tooltip=REWARD_HINT),
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
        reward: host.WiredReward,
        sampler_name: str,
        checkpointing: str,
        held_out: host.WiredReward | None = None,
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
        return host.schema(
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
                io.Combo.Input(
                    "scheduler",
                    options=list(SCHEDULERS),
                    default="normal",
                    tooltip="How the noise levels are spread, as for KSampler. With one step all are alike.",
                ),
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
                host.LATENT_REWARD.Input("reward", tooltip=REWARD_HINT),
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
        reward: host.WiredReward,
        checkpointing: str,
        held_out: host.WiredReward | None = None,
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
        return io.NodeOutput(
            found.best,
            found.initial,
            found.noise,
            found.outcome.gather("best_reward").tolist(),
            chart,
            ui=shown(chart),
        )
