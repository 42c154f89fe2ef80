"""Balancing a batch: the items that meet a target, and a reward by which the others come to."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .. import lclip
from ..lclip.choosing.questions import TOLERANCE, questions_of, targets_of
from . import draw, host
from .host import sockets
from .host.concept_widgets import concepts_input, margin_input, target_input
from .host.feedback import shown
from .latents import numbers_of, samples_of, take_items


class Balance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_Balance",
            is_output_node=True,
            display_name="Balance Latents",
            category="latent-clip",
            description="Towards shares that you want: chooses the items of a batch that meet them, and "
            "gives every item a concept as a reward, by which ReNO, guidance or a race makes up what lacks. "
            "It goes by what a CLIP sees, and says nothing about persons.",
            search_aliases=["bias", "fairness", "debias", "diversity", "balanced batch", "distribution"],
            inputs=[
                sockets.LATENT_CLIP.Input("latent_clip", tooltip="The Latent-CLIP that judges."),
                io.Latent.Input("latent", tooltip="A batch of clean latents, two items or more."),
                concepts_input(
                    "What is told apart: concepts parted by |, such as a cat | a dog; or one concept a line. "
                    "Two or more that differ."
                ),
                target_input(
                    "The shares that are wanted, one for each concept, such as 0.5 | 0.5. Empty, the "
                    "default: all alike."
                ),
                io.Int.Input(
                    "k",
                    default=0,
                    min=0,
                    max=4096,
                    optional=True,
                    tooltip="How many are chosen, as near to the target as they can be. 0, the default: as "
                    "many as meet it.",
                ),
                margin_input(),
                io.Float.Input(
                    "weight",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    optional=True,
                    tooltip="How much its own concept counts in the reward that leaves, 0 or more: weight x "
                    "0.01 x log of its probability. 1 by default, as for a Text Reward.",
                ),
                sockets.advanced(
                    io.Float.Input(
                        "tolerance",
                        default=TOLERANCE,
                        min=0.0,
                        max=1.0,
                        step=0.01,
                        optional=True,
                        tooltip="With k 0: how far from the target the chosen may be, in total variation, "
                        "0 to 1. 0.02 by default.",
                    )
                ),
                sockets.LATENT_REWARD.Input(
                    "reward",
                    optional=True,
                    tooltip="Which of the items that show a concept to prefer, such as a Text Reward of the "
                    "prompt; it is in the reward that leaves too. Open: those that show it most surely.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="chosen",
                    tooltip="The items that meet the target, in their order. Where none shows one concept "
                    "clearly, what hangs on this socket does not run.",
                ),
                io.Latent.Output(
                    display_name="rest",
                    tooltip="The others, in their order. Where none is left, what hangs on this socket does "
                    "not run.",
                ),
                sockets.LATENT_REWARD.Output(
                    display_name="reward",
                    tooltip="For this batch, or items of it: to every item its own concept, plus the reward "
                    "that came in. Wire it into ReNO, guidance or a race over the same batch.",
                ),
                io.String.Output(
                    display_name="report", tooltip="In words: what was seen, chosen, and what is to change."
                ),
                io.String.Output(
                    display_name="wanted",
                    is_output_list=True,
                    tooltip="For every item that came in the concept it is to show; the chosen keep theirs.",
                ),
                io.Float.Output(
                    display_name="distance",
                    tooltip="Total variation of the chosen to the target, 0 to 1; NaN where none is.",
                ),
                io.Image.Output(
                    display_name="chart", tooltip="Before, chosen and wanted shares beside the target."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        latent_clip: host.models.LoadedLatentCLIP,
        latent: dict[str, Any],
        concepts: str,
        target: str = "",
        k: int = 0,
        margin: float = 0.1,
        weight: float = 1.0,
        tolerance: float = TOLERANCE,
        reward: host.models.WiredReward | None = None,
    ) -> io.NodeOutput:
        samples, names = samples_of(latent), one_question(concepts)
        numbers = numbers_of(latent)
        cautions = latent_clip.check(samples)
        (aims,) = targets_of(target, 1)
        values = None
        if reward is not None:
            reward = reward.of_batch(len(samples), numbers)
            cautions += reward.check(samples)
            values = host.memory.to_host(reward.ready(samples)(samples))
        model = latent_clip.ready(samples)
        found = lclip.balance(
            model, samples, names, aims, values, k or None, margin=margin, tolerance=tolerance
        )
        cautions += [*latent_clip.cautions(texts=names), *found.notes]
        with host.memory.ordinary_tensors():
            own = lclip.ConceptReward(model, names, found.wanted, weight, numbers=numbers)
        chart = draw.share_chart.balance_chart(found)
        return io.NodeOutput(
            take_items(latent, list(found.chosen)) if found.chosen else sockets.nothing(),
            take_items(latent, list(found.rest)) if found.rest else sockets.nothing(),
            host.models.add_reward(reward, host.models.wire_reward(own, (latent_clip,))),
            found.report(draw.words.said),
            [names[place] for place in found.wanted],
            found.after,
            chart,
            ui=shown(draw.sheets.with_cautions(chart, list(dict.fromkeys(cautions)))),
        )


def one_question(text: str) -> list[str]:
    """The concepts of the one question. ValueError where there are several."""
    first, *more = questions_of(text)
    if more:
        raise ValueError(
            f"concepts holds {len(more) + 1} questions; expected one. Write combinations as concepts of "
            "their own, such as a young cat | an old cat | a young dog, or chain a Balance node for each."
        )
    return first
