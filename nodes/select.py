"""Choosing the best latents of a batch by a reward."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .. import lclip
from ..lclip.scoring import too_many
from .draw import sheets
from .host import memory, models, sockets
from .host import spaces as host_spaces
from .host.feedback import shown
from .latents import samples_of, take_items


class Select(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_Select",
            is_output_node=True,
            display_name="Select Best Latents",
            category="latent-clip",
            description="Keeps the k latents of a batch that a reward likes best, before anything is "
            "decoded. The others leave by the second socket.",
            search_aliases=["best of n", "pick best", "rank latents", "top k", "filter batch", "cherry pick"],
            inputs=[
                io.Latent.Input("latent", tooltip="A batch of clean latents, such as a sampler's output."),
                sockets.LATENT_REWARD.Input(
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
                    "Where there are fewer, all are kept, and the node says so.",
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
    def execute(cls, latent: dict[str, Any], reward: models.WiredReward, k: int) -> io.NodeOutput:
        samples = samples_of(latent)
        cautions = reward.check(samples)
        values = memory.to_host(reward.ready(samples)(samples))
        best, rest = lclip.top_k(values, k)
        if (text := too_many(k, len(samples))) is not None:
            cautions.append(text)
        previews = memory.to_host(host_spaces.preview(samples, reward.space))
        return io.NodeOutput(
            take_items(latent, best),
            take_items(latent, rest) if rest else sockets.nothing(),
            values.tolist(),
            ", ".join(str(index) for index in best),
            ui=shown(sheets.pick_sheet(previews, values, best, cautions)),
        )
