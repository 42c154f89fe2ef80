"""Latent adapters: a Latent-CLIP reads another VAE's latents, through a small map trained on pictures."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io

from .. import lclip
from . import draw, host
from .host import sockets
from .host.choices import SHIPPED
from .host.feedback import say, shown
from .host.folders import ADAPTERS

AUTO, WIRED = "auto", "(from the wire)"


class TrainAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_TrainAdapter",
            display_name="Train Latent Adapter",
            category="latent-clip/adapters",
            description="Teaches a Latent-CLIP to read another VAE's latents, from your own pictures and "
            "without captions: both VAEs encode them, and a small network learns the way from one to the "
            "other. The result is saved in models/latent_clip_adapters. Cancel keeps the best so far.",
            search_aliases=["latent translator", "vae adapter", "flux", "sd1.5", "convert latents"],
            inputs=[
                sockets.LATENT_CLIP.Input("latent_clip", tooltip="The Latent-CLIP that shall read them."),
                io.Vae.Input("vae", tooltip="The other VAE: the one whose latents shall be read."),
                io.Vae.Input("own_vae", tooltip="The VAE that this Latent-CLIP was trained on."),
                io.Combo.Input(
                    "latents",
                    options=[AUTO, *lclip.LATENT_SPACES],
                    default=AUTO,
                    tooltip="Which latents the other VAE makes, by name: SD1.5 and SDXL, or SD3 and FLUX, "
                    "cannot be told apart by the VAE. auto takes what is certain, or says what it may be.",
                ),
                io.String.Input(
                    "save_as",
                    default="adapter",
                    tooltip="A name to save the adapter under, in models/latent_clip_adapters. Nothing is "
                    "overwritten: a number is added. What was trained from the same inputs before is taken "
                    "from its file.",
                ),
                io.Int.Input(
                    "steps",
                    default=600,
                    min=10,
                    max=100_000,
                    tooltip="Steps of training, 600 by default. More gains little.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFF,
                    control_after_generate=False,
                    tooltip="Of the first weights, the order, and the choice of held-out pictures.",
                ),
                io.String.Input(
                    "folder",
                    default="",
                    tooltip="Pictures to learn from, as a folder in ComfyUI's input folder. Empty where "
                    "images are wired. 500 to 2,000 are a good number, as varied as what will be read.",
                ),
                sockets.advanced(
                    sockets.switch(
                        "custom_side",
                        "Whether side counts. off, the default: a folder's pictures are cut to what the "
                        "Latent-CLIP was trained on.",
                    )
                ),
                sockets.advanced(
                    io.Int.Input(
                        "side",
                        default=512,
                        min=8,
                        max=2048,
                        tooltip="With custom_side: side of the squares that a folder's pictures are cut to, "
                        "in pixels. 512, the default, is the side for SDXL.",
                    )
                ),
                sockets.advanced(
                    io.Int.Input(
                        "batch",
                        default=32,
                        min=1,
                        max=512,
                        tooltip="Pictures per step, 32 by default. Fewer need less memory.",
                    )
                ),
                io.Image.Input(
                    "images", optional=True, tooltip="Pictures to learn from, as a batch of one size."
                ),
            ],
            outputs=[
                sockets.LATENT_ADAPTER.Output(
                    display_name="adapter", tooltip="For Apply Latent Adapter; it is saved as well."
                ),
                io.Float.Output(
                    display_name="cosine",
                    tooltip="On pictures that were not trained on: how alike the Latent-CLIP finds mapped "
                    "and real latents. 1 is alike in everything.",
                ),
                io.Float.Output(
                    display_name="latent_error",
                    tooltip="On the same pictures: the error of the mapped latents as a share of their "
                    "variance. 0 is perfect.",
                ),
                io.String.Output(display_name="report", tooltip="Pictures, figures, time and file."),
            ],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, folder: str | None = None, **_: Any) -> Any:
        """Train again when the folder's pictures have changed; a wired folder's name comes as None."""
        if not folder or not folder.strip():
            return ""
        try:
            found = lclip.find_pictures(host.adapter.input_folder(folder))
            return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in found]
        except (ValueError, OSError) as error:
            return str(error)

    @classmethod
    def execute(
        cls,
        latent_clip: host.models.LoadedLatentCLIP,
        vae: Any,
        own_vae: Any,
        latents: str,
        save_as: str,
        steps: int,
        seed: int,
        folder: str,
        custom_side: bool,
        side: int,
        batch: int,
        images: Any = None,
    ) -> io.NodeOutput:
        config = latent_clip.config
        source = host.spaces.vae_space(vae, latents, "the other VAE")
        host.spaces.check_vae(own_vae, config.latent_space, "own_vae")
        factor = config.space.factor if config.space else 1
        pictures = host.adapter.PictureSource(
            images, folder, side if custom_side else config.native_size * factor
        )
        settings = lclip.AdapterSettings(steps=steps, seed=seed, batch=batch)
        tell = partial(say, cls.hidden.unique_id)
        found = host.adapter.train(latent_clip, source, (vae, own_vae), pictures, settings, save_as, tell)
        adapter, figures = found.wired.adapter, found.wired.adapter.figures
        said = draw.words.said
        kept = "taken from {file}: trained from the same inputs before"
        saved = said("saved as {file}" if found.comparison else kept, file=found.path)
        return io.NodeOutput(
            found.wired,
            (figures.cosine or 0.0) if figures else 0.0,
            figures.latent_error if figures else 1.0,
            f"{adapter.describe()}\n{saved}",
            ui=shown(draw.charts.as_image([found.comparison])) if found.comparison else None,
        )


class ApplyAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_ApplyAdapter",
            display_name="Apply Latent Adapter",
            category="latent-clip/adapters",
            description="A Latent-CLIP that reads another VAE's latents, through an adapter. Score, rewards, "
            "ReNO, guidance, gate and heatmap work with it as with any other.",
            search_aliases=["latent translator", "vae adapter"],
            inputs=[
                sockets.LATENT_CLIP.Input(
                    "latent_clip", tooltip="The Latent-CLIP that the adapter was trained with."
                ),
                io.Combo.Input(
                    "file",
                    options=[WIRED, *SHIPPED, *ADAPTERS.files()],
                    default=WIRED,
                    tooltip="An adapter that comes with the pack, one in models/latent_clip_adapters "
                    "(published interposers too), or the one that is wired.",
                ),
                sockets.LATENT_ADAPTER.Input("adapter", optional=True, tooltip="From Train Latent Adapter."),
            ],
            outputs=[
                sockets.LATENT_CLIP.Output(
                    display_name="latent_clip", tooltip="The same model, for the other VAE's latents."
                ),
                io.String.Output(display_name="report", tooltip="What the adapter is, and its figures."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str | None = WIRED, **_: Any) -> Any:
        """Load again when the file under that name has changed."""
        return file if file == WIRED or file in SHIPPED else ADAPTERS.state(file)

    @classmethod
    def execute(
        cls,
        latent_clip: host.models.LoadedLatentCLIP,
        file: str,
        adapter: host.adapter.WiredAdapter | None = None,
    ) -> io.NodeOutput:
        if (file == WIRED) == (adapter is None):
            raise ValueError(
                "There is no adapter, or there are two; expected one on the wire, or a file. Choose "
                f"{WIRED!r} where one is wired."
            )
        if file in SHIPPED:
            wired = host.adapter.shipped(file)
        else:
            wired = adapter or host.adapter.load_adapter(ADAPTERS.path(file), file)
        applied = host.adapter.AdaptedLatentCLIP(latent_clip, wired)
        return io.NodeOutput(applied, wired.adapter.describe())
