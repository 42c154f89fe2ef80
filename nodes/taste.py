"""Own taste on a wire: learnt from liked and disliked latents, or loaded."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import io

from .. import lclip
from ..lclip.rewards.discriminant import REGULARIZATION
from . import draw, host
from .host import sockets
from .host.feedback import cautioned
from .host.folders import NOT_GIVEN, TASTES, saved
from .latents import about, samples_of

WEIGHT = (
    "How much this reward counts in a sum. 1 counts about as much as a Text Reward of weight 1; a negative "
    "weight seeks what is disliked; 0 switches it off."
)


class TrainTaste(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_TrainTaste",
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            is_output_node=True,
            display_name="Train Taste",
            category="latent-clip/rewards",
            description="Learns your taste from latents that you like and others that you do not, as a "
            "reward for Select Best Latents, ReNO and guidance. Ten of each are enough for a plain taste; "
            "the report says how sure it is.",
            search_aliases=["own taste", "preference", "aesthetic", "like dislike", "train reward", "style"],
            inputs=[
                sockets.LATENT_CLIP.Input(
                    "latent_clip", tooltip="The Latent-CLIP whose eyes the taste uses."
                ),
                io.Latent.Input(
                    "liked",
                    tooltip="A batch of clean latents that you like, at least 2, better 10 or more. Load "
                    "Latent and Latent Batch gather saved ones; VAE Encode makes them of pictures.",
                ),
                io.Latent.Input(
                    "disliked",
                    tooltip="A batch of latents that you do not like. The best ones differ from the liked "
                    "in what matters to you alone, such as others of the same prompts.",
                ),
                sockets.weight_input(WEIGHT),
                sockets.switch(
                    "save",
                    "Whether the taste is saved as well, under the name save_as. on by default; off keeps it "
                    "in this workflow alone.",
                    default=True,
                ),
                io.String.Input(
                    "save_as",
                    default="taste",
                    tooltip="A name to save the taste under, in models/latent_clip_tastes, for Load Taste. "
                    "Nothing is overwritten: a number is added. What was learnt from the same latents before "
                    "is taken from its file.",
                ),
                sockets.advanced(
                    io.Combo.Input(
                        "regularization",
                        options=list(REGULARIZATION),
                        default="auto",
                        tooltip="How far the taste is held back from the examples' own peculiarities. auto "
                        "(the default) takes it from the examples: strong for few, light for many, "
                        "medium in between.",
                    )
                ),
                sockets.add_to_input(),
            ],
            outputs=[
                sockets.reward_output(),
                io.Float.Output(
                    display_name="accuracy",
                    tooltip="Share of the examples that fall on their own side when each is left out in "
                    "turn, from 0 to 1; 0.5 is chance.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="Numbers of examples, accuracy with its interval, warnings, and the file.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        latent_clip: host.models.LoadedLatentCLIP,
        liked: dict[str, Any],
        disliked: dict[str, Any],
        weight: float,
        save: bool,
        save_as: str,
        regularization: str,
        add_to: host.models.WiredReward | None = None,
    ) -> io.NodeOutput:
        from ..lclip.rewards.taste import taste_inputs

        with about("liked"):
            good = samples_of(liked)
        with about("disliked"):
            bad = samples_of(disliked)
        model = latent_clip.ready(max(good, bad, key=torch.numel))
        name, shrinkage = save_as.strip(), REGULARIZATION[regularization]
        with host.memory.ordinary_tensors():
            known = learnt_before(name, taste_inputs(model, good, bad, shrinkage)) if save else None
            if save and not known:
                TASTES.new_place(name, ".safetensors")  # a bad one is said before the work
            taste = known or lclip.train_taste(model, good, bad, shrinkage, name or "taste", latent_clip.name)
            reward = lclip.TasteReward(model, taste, weight)
        cautions = latent_clip.cautions_of_examples(good, "liked")
        cautions += latent_clip.cautions_of_examples(bad, "disliked")
        said = draw.words.said
        lines = [taste.text(said), *draw.words.cautions(cautions)]
        lines += [said("saved as {file}", file=keep(taste, name))] if save else []
        lines += [said("learnt from the same latents before: not learnt again")] if known else []
        own = host.models.wire_reward(reward, (latent_clip,), [*cautions, *taste.notes])
        return io.NodeOutput(
            host.models.add_reward(add_to, own),
            taste.figures.accuracy if taste.figures else 0.0,
            "\n".join(lines),
            ui=cautioned(cls.hidden, own.cautions),
        )


def learnt_before(name: str, inputs: str) -> lclip.Taste | None:
    """The taste among those of that name that was learnt from exactly these inputs, or None."""
    for path in TASTES.saved_as(name, ".safetensors"):
        try:
            taste = lclip.load_taste(path)
        except lclip.CheckpointError:
            continue
        if taste.trained_from == inputs and taste.figures is not None:
            return taste
    return None


def keep(taste: lclip.Taste, name: str) -> Path:
    """Write a taste under a name that is still free; a file that holds the same taste is left as it is."""
    for path in TASTES.places_for(name, ".safetensors"):
        if not path.exists():
            return saved(partial(lclip.save_taste, taste), path)
        if is_stored(taste, path):
            return path
    raise AssertionError("the numbers never end")


def is_stored(taste: lclip.Taste, path: Path) -> bool:
    try:
        return lclip.load_taste(path).equals(taste)
    except lclip.CheckpointError:
        return False


class LoadTaste(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_LoadTaste",
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            display_name="Load Taste",
            category="latent-clip/rewards",
            description="A saved taste, or an aesthetic head in LAION's form that was trained on this "
            "Latent-CLIP, as a reward.",
            search_aliases=["aesthetic predictor", "aesthetic score", "own taste", "preference"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=TASTES.files(),
                    tooltip="A file in models/latent_clip_tastes: what Train Taste saved, or an aesthetic "
                    "head (.pth, .safetensors). Whole fine-tuned models belong into Load Latent-CLIP.",
                ),
                sockets.LATENT_CLIP.Input(
                    "latent_clip",
                    tooltip="The Latent-CLIP that the taste was trained with; another one is refused.",
                ),
                sockets.weight_input(WEIGHT),
                sockets.add_to_input(),
            ],
            outputs=[
                sockets.reward_output(),
                io.String.Output(
                    display_name="report", tooltip="What the taste was learnt from, and how sure it is."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = NOT_GIVEN, weight: float | None = None) -> bool | str:
        return TASTES.check(file)  # weight is named so that the browser has a place for the answer

    @classmethod
    def fingerprint_inputs(cls, file: str | None = NOT_GIVEN, **_: Any) -> Any:
        """Load again when the file under that name has changed."""
        return TASTES.state(file)

    @classmethod
    def execute(
        cls,
        file: str,
        latent_clip: host.models.LoadedLatentCLIP,
        weight: float,
        add_to: host.models.WiredReward | None = None,
    ) -> io.NodeOutput:
        with host.memory.ordinary_tensors():
            taste = lclip.load_taste(TASTES.path(file))
            reward = lclip.TasteReward(latent_clip.model, taste, weight, model_name=latent_clip.name)
        own = host.models.wire_reward(reward, (latent_clip,), [*reward.doubts, *taste.notes])
        report = "\n".join([taste.text(draw.words.said), *draw.words.cautions(reward.doubts)])
        shown = cautioned(cls.hidden, own.cautions)
        return io.NodeOutput(host.models.add_reward(add_to, own), report, ui=shown)
