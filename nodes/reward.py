"""Rewards on a wire: what is good, by a text, by reference latents, or as people prefer it."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from .. import lclip
from . import host
from .host import sockets
from .host.feedback import cautioned
from .host.folders import NOT_GIVEN, PREFERENCES
from .latents import about, samples_of


class TextReward(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_TextReward",
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            display_name="Text Reward",
            category="latent-clip/rewards",
            description="How well latents match a text, as a reward for Select Best Latents, ReNO and "
            "guidance. Chain several to add them up.",
            search_aliases=["clip reward", "prompt reward", "score", "reno", "prompt adherence"],
            inputs=[
                sockets.LATENT_CLIP.Input("latent_clip", tooltip="The Latent-CLIP that judges."),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="What the picture should show. Several lines are several texts: their cosines "
                    "are averaged.",
                ),
                sockets.weight_input(
                    "How much this reward counts in a sum: weight x 0.01 x logit scale x cosine. 1 "
                    "(the default) is ReNO's published weight; a negative weight drives away from the text; "
                    "0 switches it off.",
                ),
                sockets.add_to_input(),
            ],
            outputs=[sockets.reward_output()],
        )

    @classmethod
    def execute(
        cls,
        latent_clip: host.models.LoadedLatentCLIP,
        text: str,
        weight: float,
        add_to: host.models.WiredReward | None = None,
    ) -> io.NodeOutput:
        model = latent_clip.ready()
        with host.memory.ordinary_tensors():
            own = lclip.TextReward(model, text, weight)
        cautions = latent_clip.cautions(texts=own.texts)
        wired = host.models.wire_reward(own, (latent_clip,), cautions)
        return io.NodeOutput(host.models.add_reward(add_to, wired), ui=cautioned(cls.hidden, cautions))


class ImageReward(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_ImageReward",
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            display_name="Latent Image Reward",
            category="latent-clip/rewards",
            description="How much latents look like a reference, latents or pictures, as a reward for Select "
            "Best Latents, ReNO and guidance. Chain several rewards to add them up.",
            search_aliases=["image similarity", "style reward", "reference", "clip image reward", "reno"],
            inputs=[
                sockets.LATENT_CLIP.Input("latent_clip", tooltip="The Latent-CLIP that judges."),
                io.Latent.Input(
                    "reference",
                    optional=True,
                    tooltip="Clean latents to resemble, such as VAE Encode gives. Several are averaged; any "
                    "size. Empty by default, where image and vae are wired instead.",
                ),
                sockets.weight_input(
                    "How much this reward counts in a sum: weight x 0.01 x logit scale x cosine. 1 "
                    "(the default) counts as a Text Reward of weight 1; a negative weight drives away from "
                    "the reference; 0 switches it off.",
                ),
                sockets.add_to_input(),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="Pictures to resemble, in place of reference: cut to a square around the middle, "
                    "at the size that the Latent-CLIP was trained on. Empty by default.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="The VAE that encodes image: that of the latents which the Latent-CLIP reads. "
                    "Empty by default.",
                ),
            ],
            outputs=[sockets.reward_output()],
        )

    @classmethod
    def execute(
        cls,
        latent_clip: host.models.LoadedLatentCLIP,
        weight: float,
        reference: dict[str, Any] | None = None,
        add_to: host.models.WiredReward | None = None,
        image: Tensor | None = None,
        vae: Any = None,
    ) -> io.NodeOutput:
        samples = reference_latents(latent_clip, reference, image, vae)
        with about("image" if reference is None else "reference"):
            latent_clip.check(samples)
        cautions = latent_clip.cautions_of_examples(samples, "reference")
        model = latent_clip.ready(samples)
        with host.memory.ordinary_tensors():
            own = lclip.ImageReward(model, samples, weight)
        wired = host.models.wire_reward(own, (latent_clip,), cautions)
        return io.NodeOutput(host.models.add_reward(add_to, wired), ui=cautioned(cls.hidden, cautions))


class VarietyReward(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_VarietyReward",
            display_name="Variety Reward",
            category="latent-clip/rewards",
            description="How far each latent of a batch is from the others, as a reward: with guidance it "
            "drives a batch apart that looks all alike.",
            search_aliases=["diversity", "variety", "repulsion", "particle guidance", "different images"],
            inputs=[
                sockets.LATENT_CLIP.Input("latent_clip", tooltip="The Latent-CLIP that judges."),
                sockets.weight_input(
                    "How much this reward counts in a sum: weight x 0.01 x logit scale x distance to "
                    "the others. 1 is the default; a negative weight draws the batch together; 0 switches it "
                    "off.",
                ),
                sockets.add_to_input(),
            ],
            outputs=[sockets.reward_output()],
        )

    @classmethod
    def execute(
        cls,
        latent_clip: host.models.LoadedLatentCLIP,
        weight: float,
        add_to: host.models.WiredReward | None = None,
    ) -> io.NodeOutput:
        own = lclip.VarietyReward(latent_clip.ready(), weight)
        return io.NodeOutput(host.models.add_reward(add_to, host.models.wire_reward(own, (latent_clip,))))


class PreferenceReward(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_PreferenceReward",
            display_name="Preference Reward",
            category="latent-clip/rewards",
            description="How much people would prefer SDXL latents for a prompt, by a published latent "
            "preference model (LRM-XL), as a reward for Select Best Latents, ReNO and guidance, or as a "
            "judge that is only watched. No VAE decode.",
            search_aliases=["LRM", "LPO", "human preference", "pickscore", "aesthetic", "held out", "judge"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=PREFERENCES.files(),
                    tooltip="The state_dict.pt of a preference model's folder in "
                    "models/latent_clip_preferences; unet, text_encoder and text_encoder_2 lie beside it, as "
                    "the authors publish them. Default: the first one.",
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="The prompt that the picture was made for, or should be. Several lines are one "
                    "text. Empty by default, and asked for.",
                ),
                sockets.weight_input(
                    "How much this reward counts in a sum: weight x 0.01 x its own scale x cosine. 1 "
                    "(the default) counts as a Text Reward of weight 1; a negative weight seeks what people "
                    "do not prefer; 0 switches it off.",
                ),
                sockets.add_to_input(),
            ],
            outputs=[sockets.reward_output()],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = NOT_GIVEN, weight: float | None = None) -> bool | str:
        return PREFERENCES.check(file)  # weight is named so that the browser has a place for the answer

    @classmethod
    def fingerprint_inputs(cls, file: str | None = NOT_GIVEN, **_: Any) -> Any:
        """Load again when the file under that name has changed."""
        return PREFERENCES.state(file)

    @classmethod
    def execute(
        cls, file: str, text: str, weight: float, add_to: host.models.WiredReward | None = None
    ) -> io.NodeOutput:
        own = host.preference.preference_reward(PREFERENCES.path(file), text, weight)
        return io.NodeOutput(host.models.add_reward(add_to, own))


def reference_latents(
    latent_clip: host.models.LoadedLatentCLIP,
    reference: dict[str, Any] | None,
    image: Tensor | None,
    vae: Any,
) -> Tensor:
    """The one reference that is wired, as raw latents. ValueError, by name, for both or none."""
    if reference is not None and image is not None:
        raise ValueError(
            "Latent Image Reward has reference and image; expected one of them. Unwire the other."
        )
    if reference is not None:
        with about("reference"):
            return samples_of(reference)
    if image is None or vae is None:
        got = "image without vae" if image is not None else "vae without image" if vae else "neither"
        raise ValueError(
            f"Latent Image Reward has {got}; expected reference, or image and vae. Wire clean latents into "
            "reference, or a picture into image and its VAE into vae."
        )
    with about("image"):
        return host.pictures.as_latents(image, vae, latent_clip.config)
