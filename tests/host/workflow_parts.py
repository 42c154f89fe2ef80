"""What the example workflows are made of: the two worlds, their loaders, and what the plans share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from workflow_canvas import Canvas, Model, Output, Point

WIDE = 225  # what a node measures at least in Nodes 2.0
TOP, FLOOR = -100, 900  # of groups: from above the nodes, which begin at 0, to under the VAE's lane
HUB = "https://huggingface.co/"


def file(name: str, directory: str, repository: str, path: str = "") -> Model:
    """A file of a hub repository, under the name that it has there."""
    return Model(name, f"{HUB}{repository}/resolve/main/{path}{name}", directory)


LIGHTNING = file("sdxl_lightning_4step.safetensors", "checkpoints", "ByteDance/SDXL-Lightning")
BASE = file("sd_xl_base_1.0.safetensors", "checkpoints", "stabilityai/stable-diffusion-xl-base-1.0")
SCHNELL = file("flux1-schnell-fp8.safetensors", "checkpoints", "Comfy-Org/flux1-schnell")
SD = file("v1-5-pruned-emaonly-fp16.safetensors", "checkpoints", "Comfy-Org/stable-diffusion-v1-5-archive")
PARTS = {"diffusion_models": "UNETLoader", "text_encoders": "CLIPLoader", "vae": "VAELoader"}


def in_parts(repository: str, *names: str) -> tuple[Model, ...]:
    """Diffusion model, text encoder and VAE of a repository that keeps them apart."""
    return tuple(
        file(name, folder, repository, f"split_files/{folder}/")
        for folder, name in zip(PARTS, names, strict=True)
    )


JUDGE = Model(  # as released, under the name that the README gives it
    "latent-clip-b-8.pt",
    HUB + "wendlerc/latent-clip-b-8-512-34b-80k/resolve/main/checkpoints/epoch_34.pt",
    "latent_clip",
)
JUDGED_AT = 512  # pixels a side
READS = (
    "and in models/latent_clip the released epoch_34.pt of latent-clip-b-8-512-34b-80k, saved as "
    "latent-clip-b-8.pt."
)
NATIVE = "SDXL (native)"


@dataclass(frozen=True)
class World:
    """What differs between the versions of a plan: the model's files, its latents, and how it samples.

    files: none for the mini world, one checkpoint, or diffusion model, text encoder and VAE. latents: what
    Load Latent-CLIP is told. empty: the node that makes empty latents. negative: where the cfg asks for one.
    gradient: weights in eight bits have none.
    """

    name: str
    size: int
    files: tuple[Model, ...] = ()
    model: str = "the mini world's model"
    latents: str = NATIVE
    clip_type: str = ""
    empty: str = "EmptyLatentImage"
    negative: str = ""
    batch: int | None = None
    sampling: tuple[tuple[str, Any], ...] = (("steps", 1), ("scheduler", "normal"))
    gradient: bool = True

    @property
    def mini(self) -> bool:
        return not self.files

    @property
    def steps(self) -> int:
        return dict(self.sampling)["steps"]

    def load(self, canvas: Canvas, at: Point) -> tuple[Output, Output, Output]:
        """MODEL, CLIP and VAE."""
        if self.mini:
            world = canvas.node("LatentCLIP_MiniWorld", at, (WIDE, 90))
            return world["model"], world["clip"], world["vae"]
        if len(self.files) == 1:
            values, size = {"ckpt_name": self.files[0].name}, (WIDE, 98)
            node = canvas.node("CheckpointLoaderSimple", at, size, None, values, self.files)
            return node["MODEL"], node["CLIP"], node["VAE"]
        (x, y), width = at, WIDE
        model, encoder, vae = self.files
        made = (
            canvas.node("UNETLoader", (x, y), (width, 82), None, {"unet_name": model.name}, (model,)),
            canvas.node("CLIPLoader", (x, y + 150), (width, 106), None,
                        {"clip_name": encoder.name, "type": self.clip_type}, (encoder,)),
            canvas.node("VAELoader", (x, y + 325), (width, 58), None, {"vae_name": vae.name}, (vae,)),
        )  # fmt: skip
        return tuple(node[output] for node, output in zip(made, ("MODEL", "CLIP", "VAE"), strict=True))  # type: ignore

    def judge(self, canvas: Canvas, at: Point) -> Output:
        """The LATENT_CLIP. The mini world is loaded once, however many nodes name it."""
        if self.mini:
            world = canvas.node("LatentCLIP_MiniWorld", at, (WIDE, 90), "Its Latent-CLIP")
            return world["latent_clip"]
        larger = {"size_rule": "fit"} if self.size > JUDGED_AT else {}
        values, size = {"file": JUDGE.name, "latents": self.latents, **larger}, (WIDE, 106)
        return canvas.node("LatentCLIP_Load", at, size, None, values, (JUDGE,))["latent_clip"]

    @property
    def needs(self) -> str:
        """What has to be there before the workflow runs. Not every frontend downloads a .pt by itself."""
        if self.mini:
            return ""
        named = ", ".join(f"{each.name} in models/{each.directory}" for each in self.files)
        return f"Needs {named}, {READS}"

    @property
    def read_as(self) -> str:
        """How the Latent-CLIP, which was trained on SDXL's latents, reads those of other models."""
        if self.latents == NATIVE:
            return ""
        return f"Load Latent-CLIP says {self.latents}: an adapter that comes with the pack reads them."

    def says(self, mini: str, released: str) -> str:
        return mini if self.mini else released

    def makes(self, what: str) -> str:
        """Who makes the latents, and in how many steps."""
        return f"{self.model} makes {what} in {self.steps} step{'s' * (self.steps > 1)} each."


def note(canvas: Canvas, at: Point, size: Point, title: str, *lines: str) -> None:
    """What a group does, large enough to be read with the whole graph in view."""
    canvas.note("\n\n".join(f"## {line}" for line in lines if line), at, size, title)


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


def start(canvas: Canvas, world: World, prompt: str, batch: int, top: float = 0) -> Start:
    """Loader, prompts and empty latents in two columns. The VAE's lane runs along the floor."""
    model, clip, vae = world.load(canvas, (0, top))
    left = WIDE + 55
    size = {"width": world.size, "height": world.size, "batch_size": world.batch or batch}
    words = canvas.node("CLIPTextEncode", (left, top + 60), (WIDE, 96), "Prompt", {"text": prompt}, clip=clip)
    unused, text = "Negative prompt" if world.negative else "Negative, unused", {"text": world.negative}
    avoid = canvas.node("CLIPTextEncode", (left, top + 200), (WIDE, 88), unused, text, clip=clip)
    empty = canvas.node(world.empty, (left, top + 332), (WIDE, 106), None, size)["LATENT"]
    bend = [] if len(world.files) > 1 else [(left - 36, top + 125)]
    lane = vae.via(*bend, (left - 27, top + 470), (left - 27, FLOOR - 25))
    return Start(model, lane, words["CONDITIONING"], avoid["CONDITIONING"], empty, left, left + WIDE)


def ksampler(
    canvas: Canvas,
    at: Point,
    begin: Start,
    title: str | None = None,
    model: Output | None = None,
    **values: Any,
) -> Output:
    settings = {"seed": 7, "cfg": 1.0, "sampler_name": "euler", **values}
    wires = {"positive": begin.prompt, "negative": begin.negative, "latent_image": begin.empty}
    wires["model"] = model or begin.model
    return canvas.node("KSampler", at, (WIDE, 262), title, settings, **wires)["LATENT"]


def sample(canvas: Canvas, world: World, begin: Start, **values: Any) -> tuple[Output, float]:
    """The one sampler of a plan, right beside its prompts; and where it ends."""
    near = replace(begin, empty=begin.empty.via((begin.right + 32, 230)))
    settings = {**dict(world.sampling), **values}
    return ksampler(canvas, (begin.right + 60, 0), near, **settings), begin.right + 60 + WIDE


def decode(canvas: Canvas, at: Point, latents: Output, vae: Output) -> Output:
    return canvas.node("VAEDecode", at, (WIDE, 46), samples=latents, vae=vae)["IMAGE"]


def below(images: Output, at: Point, height: float) -> Output:
    """A wire from a node of that place and height around its end to one that stands below it."""
    (x, y), right = at, at[0] + WIDE
    return images.via((right + 18, y + 34), (right + 14, y + height + 20), (x - 8, y + height + 32))


def enlarge(canvas: Canvas, at: Point, images: Output) -> Output:
    """The mini world's pictures, four times as large."""
    values = {"upscale_method": "nearest-exact", "scale_by": 4.0}
    return canvas.node("ImageScaleBy", at, (WIDE, 82), "x4", values, image=images)["IMAGE"]


def show(
    canvas: Canvas, at: Point, size: Point, title: str, images: Output, name: str | None = None
) -> float:
    """Pictures on the canvas, saved where they get a name; returns where they end."""
    if name is None:
        canvas.node("PreviewImage", at, size, title, images=images)
    else:
        values = {"filename_prefix": f"latent-clip/{name}"}
        canvas.node("SaveImage", at, size, title, values, images=images)
    return at[0] + size[0]


def beside(
    canvas: Canvas, world: World, at: Point, size: Point, title: str, images: Output, name: str | None = None
) -> float:
    """Pictures to the right of the node at that place, which makes them; small ones are enlarged below it."""
    (x, y), place = at, (at[0] + WIDE + 40, at[1])
    if world.mini:
        images = enlarge(canvas, (x, y + 130), below(images, at, 46))
    return show(canvas, place, size, title, images, name)


def decoded(
    canvas: Canvas,
    world: World,
    at: Point,
    bottom: float,
    title: str,
    latents: Output,
    vae: Output,
    name: str,
) -> float:
    """Decode, and save the pictures below, down to `bottom`; returns where they end."""
    images, (x, y) = decode(canvas, at, latents, vae), at
    images, y = below(images, at, 46), y + 130
    if world.mini:
        images, y = below(enlarge(canvas, (x, y), images), (x, y), 82), y + 170
    return show(canvas, (x, y), (WIDE, bottom - y), title, images, name)


FEW = (("steps", 4), ("scheduler", "simple"))
MINI = World("Mini", 64)
SDXL = World(
    "SDXL", 1024, (LIGHTNING,), "SDXL-Lightning", sampling=(("steps", 4), ("scheduler", "sgm_uniform"))
)
SDXL_BASE = World("SDXL", 1024, (BASE,), "SDXL base", negative="blurry, low quality")
Z_IMAGE = World(
    "Z-Image", 1024,
    in_parts("Comfy-Org/z_image_turbo", "z_image_turbo_bf16.safetensors", "qwen_3_4b.safetensors",
             "ae.safetensors"),
    "Z-Image Turbo", "FLUX.1 · Z-Image · Chroma", "lumina2", "EmptySD3LatentImage",
    sampling=(("steps", 8), ("scheduler", "simple"), ("sampler_name", "res_multistep")),
)  # fmt: skip
FLUX1 = World(
    "FLUX.1", 1024, (SCHNELL,), "FLUX.1 schnell", "FLUX.1 · Z-Image · Chroma", empty="EmptySD3LatentImage",
    batch=1, sampling=FEW, gradient=False,
)  # fmt: skip
FLUX2 = World(
    "FLUX.2", 1024,
    in_parts("Comfy-Org/Flux-2-Klein-4B", "flux-2-klein-4b.safetensors", "qwen_3_4b.safetensors",
             "flux2-vae.safetensors"),
    "FLUX.2 klein", "FLUX.2", "flux2", "EmptyFlux2LatentImage", sampling=FEW,
)  # fmt: skip
SD15 = World(
    "SD1.5", 512, (SD,), "SD1.5", "SD1.5", negative="blurry, low quality",
    sampling=(("steps", 20), ("scheduler", "normal"), ("cfg", 7.0)),
)  # fmt: skip
