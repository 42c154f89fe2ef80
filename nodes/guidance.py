"""Guidance: a reward steers every step of the sampler, without back-propagation through the model."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import host
from .host import sockets


class Guidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_Guidance",
            display_name="Latent-CLIP Guidance",
            category="latent-clip/sampling",
            description="Steers a model by a reward while it samples: at every step the predicted picture "
            "moves along the reward's gradient, in latent space. Works with any sampler; made for many "
            "steps. For models of 1 to 4 steps use ReNO.",
            search_aliases=["clip guidance", "classifier guidance", "universal guidance", "reward guidance"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to steer; it must make the latents that the reward reads."
                ),
                sockets.LATENT_REWARD.Input(
                    "reward",
                    tooltip="What is good: wire a Text Reward, or several chained. Higher is better.",
                ),
                io.Float.Input(
                    "strength",
                    default=0.05,
                    min=-10.0,
                    max=10.0,
                    step=0.005,
                    tooltip="How far each step moves the predicted picture, relative to its own size: 0.05, "
                    "the default, is 5 %, whatever the reward's weight. 0.01 to 0.2 are usual. Negative "
                    "values lower the reward; 0 switches guidance off.",
                ),
                io.Float.Input(
                    "start",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="From this part of the schedule on, 0 to 1; 0, the default, is its beginning, "
                    "where the layout is decided.",
                ),
                io.Float.Input(
                    "end",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Up to this part of the schedule, 0 to 1; 1, the default, is its end. Ending "
                    "earlier leaves fine detail to the model.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The steered model, for any sampler node.")
            ],
        )

    @classmethod
    def execute(
        cls, model: Any, reward: host.models.WiredReward, strength: float, start: float, end: float
    ) -> io.NodeOutput:
        return io.NodeOutput(host.guidance.guide_model(model, reward, strength, start, end))
