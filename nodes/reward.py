"""Rewards on a wire, and choosing the best latents of a batch by one."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .. import lclip
from ..lclip import rewards
from . import feedback, host
from .host_feedback import shown
from .latents import samples_of, take_items


class TextReward(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="LatentCLIP_TextReward",
            display_name="Text Reward",
            category="latent-clip/rewards",
            description="How well latents match a text, as a reward for Select Best Latents, ReNO and "
            "guidance. Chain several to add them up.",
            search_aliases=["clip reward", "prompt reward", "score", "reno", "prompt adherence"],
            inputs=[
                host.LATENT_CLIP.Input("latent_clip", tooltip="The Latent-CLIP that judges."),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="What the picture should show. Several lines are several texts: their cosines "
                    "are averaged.",
                ),
                io.Float.Input(
                    "weight",
                    default=1.0,
                    min=-100.0,
                    max=100.0,
                    step=0.05,
                    tooltip="How much this reward counts in a sum: weight x 0.01 x logit scale x cosine. 1 "
                    "(the default) is ReNO's published weight; a negative weight drives away from the text; "
                    "0 switches it off.",
                ),
                host.add_to_input(),
            ],
            outputs=[host.reward_output()],
        )

    @classmethod
    def execute(
        cls,
        latent_clip: host.LoadedLatentCLIP,
        text: str,
        weight: float,
        add_to: host.WiredReward | None = None,
    ) -> io.NodeOutput:
        model = latent_clip.ready()
        with host.ordinary_tensors():
            own = rewards.TextReward(model, text, weight)
        return io.NodeOutput(host.add_reward(add_to, host.wire_reward(own, (latent_clip,))))


class ImageReward(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="LatentCLIP_ImageReward",
            display_name="Latent Image Reward",
            category="latent-clip/rewards",
            description="How much latents look like reference latents, as a reward for Select Best Latents, "
            "ReNO and guidance. Chain several rewards to add them up.",
            search_aliases=["image similarity", "style reward", "reference", "clip image reward", "reno"],
            inputs=[
                host.LATENT_CLIP.Input("latent_clip", tooltip="The Latent-CLIP that judges."),
                io.Latent.Input(
                    "reference",
                    tooltip="Clean latents to resemble, such as VAE Encode gives. Several are averaged; any "
                    "size.",
                ),
                io.Float.Input(
                    "weight",
                    default=1.0,
                    min=-100.0,
                    max=100.0,
                    step=0.05,
                    tooltip="How much this reward counts in a sum: weight x 0.01 x logit scale x cosine. 1 "
                    "(the default) counts as a Text Reward of weight 1; a negative weight drives away from "
                    "the reference; 0 switches it off.",
                ),
                host.add_to_input(),
            ],
            outputs=[host.reward_output()],
        )

    @classmethod
    def execute(
        cls,
        latent_clip: host.LoadedLatentCLIP,
        reference: dict[str, Any],
        weight: float,
        add_to: host.WiredReward | None = None,
    ) -> io.NodeOutput:
        samples = samples_of(reference)
        latent_clip.check(samples)
        model = latent_clip.ready(samples)
        with host.ordinary_tensors():
            own = rewards.ImageReward(model, samples, weight)
        return io.NodeOutput(host.add_reward(add_to, host.wire_reward(own, (latent_clip,))))


class Select(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="LatentCLIP_Select",
            is_output_node=True,
            display_name="Select Best Latents",
            category="latent-clip",
            description="Keeps the k latents of a batch that a reward likes best, before anything is "
            "decoded. The others leave by the second socket.",
            search_aliases=["best of n", "pick best", "rank latents", "top k", "filter batch", "cherry pick"],
            inputs=[
                io.Latent.Input("latent", tooltip="A batch of clean latents, such as a sampler's output."),
                host.LATENT_REWARD.Input(
                    "reward",
                    tooltip="What is good: wire a Text Reward, or several chained. The higher the reward, "
                    "the better.",
                ),
                io.Int.Input(
                    "k",
                    default=1,
                    min=1,
                    max=4096,
                    tooltip="How many items to keep, 1 (the default: the best one) to the size of the batch. "
                    "More than there are is an error.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="best",
                    tooltip="The k best, best first. Masks and batch indices stay with their items.",
                ),
                io.Latent.Output(
                    display_name="rest",
                    tooltip="The others, in their order. Where none is left, what hangs on this socket does "
                    "not run.",
                ),
                io.Float.Output(
                    display_name="scores",
                    is_output_list=True,
                    tooltip="The reward of every item that came in, in the order it came in. It has no fixed "
                    "range: compare within a batch.",
                ),
                io.String.Output(
                    display_name="pick_list",
                    tooltip="The kept items' places in the batch, from 0, best first.",
                ),
            ],
        )

    @classmethod
    def execute(cls, latent: dict[str, Any], reward: host.WiredReward, k: int) -> io.NodeOutput:
        samples = samples_of(latent)
        reward.check(samples)
        values = host.to_host(reward.ready(samples)(samples))
        best, rest = lclip.top_k(values, k)
        return io.NodeOutput(
            take_items(latent, best),
            take_items(latent, rest) if rest else host.nothing(),
            values.tolist(),
            ", ".join(str(index) for index in best),
            ui=shown(feedback.pick_sheet(host.to_host(host.preview(samples, reward.space)), values, best)),
        )
