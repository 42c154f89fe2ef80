"""The widgets of a noise search, and the settings that they say."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ... import lclip
from ...lclip.reno.types import METHODS, OPTIMIZERS
from . import sockets
from .choices import CHECKPOINTING, SAMPLERS, SCHEDULERS

DEFAULTS = lclip.ReNOSettings()
SCHEDULER = "simple"
"""Of every node that samples, as of the stock KSampler; spaced as the few steps of distilled models are."""
SWITCHES = {"custom_lr": "lr", "stop_on_plateau": "patience", "stop_at_target": "target"}
"""Which setting each switch turns on; without it the setting is None."""


def sampler_input(gradients: bool = True) -> Any:
    """The stock sampler of a node. gradients: whether the node may ask it to pass some."""
    passed = " Not all pass gradients; the error names those that do." if gradients else ""
    return io.Combo.Input(
        "sampler_name",
        options=list(SAMPLERS),
        default="euler",
        tooltip=f"The stock sampler that renders; euler by default, as it is exact in one step.{passed}",
    )


def scheduler_input(use: str = "") -> Any:
    """The schedule of a node that samples. use: what for, as the beginning of its tooltip."""
    return io.Combo.Input(
        "scheduler",
        options=list(SCHEDULERS),
        default=SCHEDULER,
        tooltip=f"{use}How the noise levels are spread, as for KSampler, with its default: {SCHEDULER}. With "
        "one step all are alike.",
    )


def stage_inputs(default_steps: int, steps: str, seed: str, gradients: bool = True) -> list[Any]:
    """What the stock KSampler asks for, as every node asks that does its work too. steps, seed: tooltips;
    gradients: see `sampler_input`."""
    return [
        io.Model.Input("model", tooltip="The model that makes the latents, as for KSampler."),
        io.Int.Input(
            "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True, tooltip=seed
        ),
        io.Int.Input("steps", default=default_steps, min=1, max=10000, tooltip=steps),
        io.Float.Input(
            "cfg",
            default=1.0,
            min=0.0,
            max=100.0,
            step=0.1,
            round=0.01,
            tooltip="Classifier-free guidance. 1, the default, is for distilled models and costs half; "
            "others want 3 to 8.",
        ),
        sampler_input(gradients),
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
    ]


def checkpointing_input() -> Any:
    """Whether a search by gradients saves memory."""
    return io.Combo.Input(
        "checkpointing",
        options=list(CHECKPOINTING),
        default="auto",
        tooltip="Recompute activations instead of keeping them: far less memory, about a third more "
        "time. auto, the default: where memory seems short. on, off: always, never.",
    )


def search_inputs() -> list[Any]:
    """The widgets that both nodes share, the frequent ones first."""
    return [
        io.Int.Input(
            "iterations",
            default=DEFAULTS.iterations,
            min=0,
            max=10000,
            tooltip="Renders per search, the first one included; time grows with them. 50, the default, is "
            "published. 0 renders once, plainly.",
        ),
        sockets.switch(
            "custom_lr",
            "Whether lr counts. off, the default: the optimizer's own learning rate, 5 for sgd (published), "
            "0.02 for adam.",
        ),
        io.Float.Input(
            "lr",
            default=DEFAULTS.learning_rate,
            min=0.0001,
            max=1000.0,
            step=0.01,
            tooltip="Learning rate, with custom_lr: how far a step goes. 5, the default, is sgd's published "
            "one. Halve it where the curve jumps up and down.",
        ),
        io.Combo.Input(
            "method",
            options=list(METHODS),
            default=DEFAULTS.method,
            tooltip="gradient, the default, is ReNO and gains most per render. Without gradients, for every "
            "sampler and model: zero_order tries neighbours of the best noise so far, best_of_n tries fresh "
            "noise.",
        ),
        sockets.advanced(
            io.Combo.Input(
                "optimizer",
                options=list(OPTIMIZERS),
                default=DEFAULTS.optimizer,
                tooltip="sgd, the default, with Nesterov momentum 0.9 is published; adam adapts the step to "
                "each element.",
            )
        ),
        sockets.advanced(
            io.Float.Input(
                "regularization",
                default=DEFAULTS.regularization,
                min=0.0,
                max=10.0,
                step=0.001,
                tooltip="Pull towards the norm of Gaussian noise, which keeps pictures natural. 0.01, the "
                "default, is published; 0 switches it off.",
            )
        ),
        sockets.advanced(
            io.Float.Input(
                "grad_clip",
                default=DEFAULTS.grad_clip,
                min=0.001,
                max=100.0,
                step=0.01,
                tooltip="Longest gradient per item. 0.1, the default, is published. Together with lr it sets "
                "how far a step goes.",
            )
        ),
        sockets.advanced(
            io.Int.Input(
                "candidates",
                default=DEFAULTS.candidates,
                min=1,
                max=1000,
                tooltip="Screening: this many noises per item are rendered first, your own seed included, "
                "and the search starts from the best. 1, the default, is your seed alone.",
            )
        ),
        sockets.advanced(
            io.Int.Input(
                "keep",
                default=DEFAULTS.keep,
                min=1,
                max=100,
                tooltip="Screening: how many of the best candidates are searched from, one after the other. "
                "1 by default; at most the number of candidates.",
            )
        ),
        sockets.advanced(
            sockets.switch(
                "stop_on_plateau",
                "Whether an item stops early where its reward no longer rises: see patience. off by default.",
            )
        ),
        sockets.advanced(
            io.Int.Input(
                "patience",
                default=10,
                min=1,
                max=10000,
                tooltip="With stop_on_plateau: an item stops after this many renders without a new best. 10 "
                "by default.",
            )
        ),
        sockets.advanced(
            sockets.switch(
                "stop_at_target",
                "Whether an item stops early where its reward is high enough: see target. off by default.",
            )
        ),
        sockets.advanced(
            io.Float.Input(
                "target",
                default=0.3,
                min=-1000.0,
                max=1000.0,
                step=0.01,
                tooltip="With stop_at_target: an item stops when its reward reaches this. 0.3, the default, "
                "is a good match for one Text Reward of weight 1.",
            )
        ),
        sockets.advanced(checkpointing_input()),
        sockets.LATENT_REWARD.Input(
            "held_out",
            optional=True,
            tooltip="A second reward that is only watched. If it falls while the first still rises, the "
            "search is gaming the first; the curve shows both.",
        ),
    ]


def settings_of(**widgets: Any) -> lclip.ReNOSettings:
    """Widgets -> settings of the same names; what its switch leaves off is None."""
    off = {setting for switch, setting in SWITCHES.items() if not widgets.pop(switch)}
    settings: dict[str, Any] = {name: None if name in off else value for name, value in widgets.items()}
    return lclip.ReNOSettings(**settings)
