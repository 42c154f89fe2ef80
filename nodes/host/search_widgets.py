"""The widgets of a noise search, and the settings that they say."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ... import lclip
from ...lclip.reno.types import METHODS, OPTIMIZERS
from . import sampling as host_sampling
from . import sockets
from .gradients import SAMPLERS

DEFAULTS = lclip.ReNOSettings()
UNSET = {"lr": 0.0, "patience": 0, "target": 1000.0}
"""What stands for None on a number widget."""


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
            default=DEFAULTS.iterations,
            min=0,
            max=10000,
            tooltip="Renders per search, the first one included; time grows with them. 50, the default, is "
            "published. 0 renders once, plainly.",
        ),
        io.Float.Input(
            "lr",
            default=UNSET["lr"],
            min=0.0,
            max=1000.0,
            step=0.01,
            tooltip="Learning rate: how far a step goes. 0, the default, takes the optimizer's own: 5 for "
            "sgd (published), 0.02 for adam. Halve it where the curve jumps up and down.",
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
            io.Int.Input(
                "patience",
                default=UNSET["patience"],
                min=0,
                max=10000,
                tooltip="An item stops after this many renders without a new best. 0, the default: never.",
            )
        ),
        sockets.advanced(
            io.Float.Input(
                "target",
                default=UNSET["target"],
                min=-1000.0,
                max=1000.0,
                step=0.01,
                tooltip="An item stops when its reward reaches this. The default, 1000, is out of reach.",
            )
        ),
        sockets.advanced(
            io.Combo.Input(
                "checkpointing",
                options=list(host_sampling.CHECKPOINTING),
                default="auto",
                tooltip="Recompute activations instead of keeping them: far less memory, about a third more "
                "time. auto, the default: where memory seems short. on, off: always, never.",
            )
        ),
        sockets.LATENT_REWARD.Input(
            "held_out",
            optional=True,
            tooltip="A second reward that is only watched. If it falls while the first still rises, the "
            "search is gaming the first; the curve shows both.",
        ),
    ]


def settings_of(**widgets: Any) -> lclip.ReNOSettings:
    """Widgets -> settings of the same names; a number that stands for "not set" becomes None."""
    settings: dict[str, Any] = {n: None if value == UNSET.get(n) else value for n, value in widgets.items()}
    return lclip.ReNOSettings(**settings)
