"""Load a Latent-CLIP checkpoint from the model folders."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from .. import lclip
from . import host
from .host import sockets
from .host.choices import LATENTS, NATIVE
from .host.folders import CHECKPOINTS, NOT_GIVEN

DTYPES: dict[str, torch.dtype | None] = {
    "auto": None,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


class LoadLatentCLIP(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_Load",
            display_name="Load Latent-CLIP",
            category="latent-clip/loaders",
            description="Loads a Latent-CLIP: a CLIP that reads latents, so that nothing needs decoding to "
            "be scored.",
            search_aliases=["latent clip loader", "clip model", "checkpoint", "clip score"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=CHECKPOINTS.files(),
                    tooltip="A checkpoint in models/latent_clip: a released .pt as it is, or a converted "
                    ".safetensors.",
                ),
                io.Combo.Input(
                    "latents",
                    options=list(LATENTS),
                    default=NATIVE,
                    optional=True,
                    tooltip="Which models' latents will be read, by the VAE of the model that makes the "
                    "pictures. SDXL (native), the default, is what the released checkpoints were trained on; "
                    "FLUX.1 · Z-Image · Chroma, FLUX.2, SD3.5 and SD1.5 are read through a small adapter "
                    "that comes with this pack.",
                ),
                sockets.advanced(
                    io.Combo.Input(
                        "size_rule",
                        options=list(lclip.SIZE_RULES),
                        default=lclip.DEFAULT_SIZE_RULE,
                        optional=True,
                        tooltip="How latents of another size than the model's are read, by every node that "
                        "this Latent-CLIP is wired to. fit, the default: larger ones are brought to the "
                        "model's size by a learned map; smaller ones, and those of a Latent-CLIP for another "
                        "VAE than SDXL's, are read by interpolate. The others: stretched (resize), by square "
                        "crops along the longer side (crops), by native-size tiles (tiles), as they are with "
                        "interpolated positions (interpolate). Latents of the model's own size are not "
                        "touched.",
                    )
                ),
                sockets.advanced(
                    io.Combo.Input(
                        "dtype",
                        options=list(DTYPES),
                        default="auto",
                        tooltip="How the weights are kept in memory; the maths always runs in float32. auto, "
                        "the default: float16 on a GPU, float32 on a CPU. Half precision (float16, "
                        "bfloat16) halves the memory and hardly changes scores.",
                    )
                ),
            ],
            outputs=[
                sockets.LATENT_CLIP.Output(
                    display_name="latent_clip", tooltip="The model, loaded when it is used."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = NOT_GIVEN, dtype: str | None = None) -> bool | str:
        return CHECKPOINTS.check(file)  # dtype is named so that the browser has a place for the answer

    @classmethod
    def fingerprint_inputs(cls, file: str | None = NOT_GIVEN, **_: Any) -> Any:
        """Load again when the file under that name has changed."""
        return CHECKPOINTS.state(file)

    @classmethod
    def execute(
        cls,
        file: str,
        dtype: str = "auto",
        latents: str = NATIVE,
        size_rule: str = lclip.DEFAULT_SIZE_RULE,
    ) -> io.NodeOutput:
        loaded = host.models.load_latent_clip(CHECKPOINTS.path(file), DTYPES[dtype], size_rule=size_rule)
        if latents == NATIVE:
            return io.NodeOutput(loaded)
        return io.NodeOutput(host.adapter.AdaptedLatentCLIP(loaded, host.adapter.shipped(latents)))
