"""What the example workflows are made of: the two worlds, their loaders, and what the plans share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from workflow_canvas import Canvas, Model, Output, Point

TOP, FLOOR = -100, 900  # of groups: from above the nodes, which begin at 0, to under the VAE's lane
HUB = "https://huggingface.co/"
TURBO = Model(
    "sd_xl_turbo_1.0_fp16.safetensors",
    HUB + "stabilityai/sdxl-turbo/resolve/main/sd_xl_turbo_1.0_fp16.safetensors",
    "checkpoints",
)
BASE = Model(
    "sd_xl_base_1.0.safetensors",
    HUB + "stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors",
    "checkpoints",
)
JUDGE = Model(  # as released, under the name that the README gives it
    "latent-clip-b-8.pt",
    HUB + "wendlerc/latent-clip-b-8-512-34b-80k/resolve/main/checkpoints/epoch_34.pt",
    "latent_clip",
)

FILES = (
    "Needs {checkpoint} in models/checkpoints, and in models/latent_clip the released epoch_34.pt of "
    "latent-clip-b-8-512-34b-80k, saved as latent-clip-b-8.pt."
)


@dataclass(frozen=True)
class World:
    """What differs between the twins: the loaders, the size of a picture, and what the notes say of both."""

    name: str
    size: int
    checkpoint: Model | None

    @property
    def mini(self) -> bool:
        return self.checkpoint is None

    @property
    def loader(self) -> float:
        """The width of a loader: one with a file's name in it needs more."""
        return 195 if self.mini else 210

    def load(self, canvas: Canvas, at: Point) -> tuple[Output, Output, Output]:
        """MODEL, CLIP and VAE."""
        if self.checkpoint is None:
            world = canvas.node("LatentCLIP_MiniWorld", at, (self.loader, 90))
            return world["model"], world["clip"], world["vae"]
        values, models = {"ckpt_name": self.checkpoint.name}, (self.checkpoint,)
        node = canvas.node("CheckpointLoaderSimple", at, (self.loader, 98), None, values, models)
        return node["MODEL"], node["CLIP"], node["VAE"]

    def judge(self, canvas: Canvas, at: Point) -> Output:
        """The LATENT_CLIP. The mini world is loaded once, however many nodes name it."""
        if self.mini:
            world = canvas.node("LatentCLIP_MiniWorld", at, (self.loader, 90), "Its Latent-CLIP")
            return world["latent_clip"]
        values, models = {"file": JUDGE.name}, (JUDGE,)
        return canvas.node("LatentCLIP_Load", at, (self.loader, 82), None, values, models)["latent_clip"]

    @property
    def files(self) -> str:
        """What has to be there before the workflow runs. Not every frontend downloads a .pt by itself."""
        return FILES.format(checkpoint=self.checkpoint.name) if self.checkpoint else ""

    def says(self, mini: str, released: str) -> str:
        return mini if self.mini else released


def note(canvas: Canvas, at: Point, size: Point, title: str, *lines: str) -> None:
    """What a group does, large enough to be read with the whole graph in view."""
    canvas.note("\n\n".join(f"## {line}" for line in lines), at, size, title)


@dataclass(frozen=True)
class Start:
    """What every workflow begins with; `left` and `right` are where its second column stands."""

    model: Output
    vae: Output
    prompt: Output
    negative: Output
    empty: Output
    left: float
    right: float


def start(canvas: Canvas, world: World, prompt: str, batch: int, negative: str = "", top: float = 0) -> Start:
    """Loader, prompts and empty latents in two columns. The VAE's lane runs along the floor."""
    model, clip, vae = world.load(canvas, (0, top))
    left, size = world.loader + 55, {"width": world.size, "height": world.size, "batch_size": batch}
    words = canvas.node("CLIPTextEncode", (left, top + 60), (220, 96), "Prompt", {"text": prompt}, clip=clip)
    unused = "Negative prompt" if negative else "Negative, unused"
    avoid = canvas.node("CLIPTextEncode", (left, top + 200), (220, 88), unused, {"text": negative}, clip=clip)
    empty = canvas.node("EmptyLatentImage", (left, top + 332), (220, 106), None, size)["LATENT"]
    lane = vae.via((left - 36, top + 125), (left - 27, top + 470), (left - 27, FLOOR - 25))
    return Start(model, lane, words["CONDITIONING"], avoid["CONDITIONING"], empty, left, left + 220)


def ksampler(
    canvas: Canvas,
    at: Point,
    begin: Start,
    title: str | None = None,
    model: Output | None = None,
    **values: Any,
) -> Output:
    settings = {"seed": 7, "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", **values}
    wires = {"positive": begin.prompt, "negative": begin.negative, "latent_image": begin.empty}
    wires["model"] = model or begin.model
    return canvas.node("KSampler", at, (210, 262), title, settings, **wires)["LATENT"]


def sample(canvas: Canvas, begin: Start, **values: Any) -> tuple[Output, float]:
    """The one sampler of a plan, right beside its prompts; and where it ends."""
    near = replace(begin, empty=begin.empty.via((begin.right + 32, 230)))
    return ksampler(canvas, (begin.right + 60, 0), near, **values), begin.right + 270


def decode(canvas: Canvas, at: Point, latents: Output, vae: Output) -> Output:
    return canvas.node("VAEDecode", at, (170, 46), samples=latents, vae=vae)["IMAGE"]


def show(
    canvas: Canvas, world: World, at: Point, size: Point, title: str, images: Output, name: str | None = None
) -> float:
    """Pictures on the canvas, saved where they get a name; returns where they end.

    Those of the mini world are enlarged on the way.
    """
    (x, y), (width, height) = at, size
    if world.mini:
        values = {"upscale_method": "nearest-exact", "scale_by": 4.0}
        by_4 = canvas.node("ImageScaleBy", (x, y + 29), (210, 82), "x4", values, collapsed=True, image=images)
        images, x = by_4["IMAGE"], x + 100
    if name is None:
        canvas.node("PreviewImage", (x, y), (width, height), title, images=images)
    else:
        values = {"filename_prefix": f"latent-clip/{name}"}
        canvas.node("SaveImage", (x, y), (width, height), title, values, images=images)
    return x + width


MINI = World("Mini", 64, None)
SDXL_TURBO, SDXL_BASE = World("SDXL", 512, TURBO), World("SDXL", 1024, BASE)
