"""Reading other latents through the VAEs that one has: faithful, and dear."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .. import lclip
from . import host
from .host import sockets

AUTO = "auto"


class Bridge(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_Bridge",
            display_name="Bridge Latents by VAEs",
            category="latent-clip/adapters",
            description="A Latent-CLIP that reads another VAE's latents by decoding them with that VAE and "
            "encoding them again with its own: the most faithful way, where memory and time allow. "
            "Small VAEs (taesd, taef1) will do.",
            search_aliases=["latent translator", "vae bridge", "flux", "z-image", "convert latents", "taesd"],
            inputs=[
                sockets.LATENT_CLIP.Input("latent_clip", tooltip="The Latent-CLIP that shall read them."),
                io.Vae.Input(
                    "vae", tooltip="The VAE that made the latents, or its small twin (taef1, taesd3)."
                ),
                io.Vae.Input(
                    "own_vae", tooltip="The VAE of the Latent-CLIP's own latents: SDXL's, or taesdxl."
                ),
                io.Combo.Input(
                    "latents",
                    options=[AUTO, *lclip.LATENT_SPACES],
                    default=AUTO,
                    tooltip="Which latents the first VAE makes, by name: SD1.5 and SDXL, or SD3 and FLUX, "
                    "cannot be told apart by the VAE. auto takes what is certain, or says what it may be.",
                ),
            ],
            outputs=[
                sockets.LATENT_CLIP.Output(
                    display_name="latent_clip", tooltip="The same model, for the other VAE's latents."
                )
            ],
        )

    @classmethod
    def execute(
        cls, latent_clip: host.models.LoadedLatentCLIP, vae: Any, own_vae: Any, latents: str
    ) -> io.NodeOutput:
        return io.NodeOutput(host.bridge.BridgedLatentCLIP(latent_clip, vae, own_vae, latents))
