"""What the example workflows are made of: the two worlds, their loaders, and what the plans share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from workflow_canvas import Canvas, Model, Output, Point

WIDE = 225  # what a node measures at least in Nodes 2.0
GAP = 60  # between the first two columns
APART = 72  # from a node's end to where the next one below it stands: 30 are its title
TOP, FLOOR = -115, 1070  # of groups: from above the nodes, which begin at 0, to under the VAE's lane
CEILING, LANE = -50, FLOOR - 13  # the Latent-CLIP's lane and the VAE's
UNDER_PREVIEW = 512  # where a sampler at the top ends with its live preview
SECOND_ROW = 582  # where a sampler stands that has another one with a live preview above it
MINI_HEIGHT, JUDGE_HEIGHT, TEXT_HEIGHT = 118, 150, 120
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
NATIVE = "SDXL (native)"


@dataclass(frozen=True)
class World:
    """What differs between the versions of a plan: the model's files, its latents, and how it samples.

    files: none for the mini world, one checkpoint, or diffusion model, text encoder and VAE. latents: what
    Load Latent-CLIP is told. empty: the node that makes empty latents. negative: where the cfg asks for one;
    without, the prompt's own wire fills the socket, which nothing reads at a cfg of 1. gradient: weights in
    eight bits have none.
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

    def load(self, canvas: Canvas, at: Point) -> tuple[Output, Output, Output, float]:
        """MODEL, CLIP and VAE of one checkpoint or of three files; and where the last loader ends."""
        if len(self.files) == 1:
            values, size = {"ckpt_name": self.files[0].name}, (WIDE, 98)
            node = canvas.node("CheckpointLoaderSimple", at, size, None, values, self.files)
            return node["MODEL"], node["CLIP"], node["VAE"], at[1] + 98
        (x, y), width = at, WIDE
        model, encoder, vae = self.files
        made = (
            canvas.node("UNETLoader", (x, y), (width, 90), None, {"unet_name": model.name}, (model,)),
            canvas.node("CLIPLoader", (x, y + 162), (width, 114), None,
                        {"clip_name": encoder.name, "type": self.clip_type}, (encoder,)),
            canvas.node("VAELoader", (x, y + 348), (width, 66), None, {"vae_name": vae.name}, (vae,)),
        )  # fmt: skip
        sockets = (node[output] for node, output in zip(made, ("MODEL", "CLIP", "VAE"), strict=True))
        return (*sockets, y + 414)  # type: ignore

    def judge(self, canvas: Canvas, at: Point) -> Output:
        """The LATENT_CLIP of a released file."""
        larger = {"size_rule": "fit"} if self.size > JUDGED_AT else {}
        values, size = {"file": JUDGE.name, "latents": self.latents, **larger}, (WIDE, JUDGE_HEIGHT)
        return canvas.node("LatentCLIP_Load", at, size, None, values, (JUDGE,))["latent_clip"]

    @property
    def needs(self) -> str:
        """What has to be there before the workflow runs, with links: not every frontend downloads a .pt."""
        if self.mini:
            return ""
        named = ", ".join(
            f"[{each.name}]({each.url}) in models/{each.directory}" for each in (*self.files, JUDGE)
        )
        return f"Needs {named}, saved under these names."

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
        model = self.model[0].upper() + self.model[1:]
        return f"{model} makes {what} in {self.steps} step{'s' * (self.steps > 1)} each."


def note(canvas: Canvas, at: Point, size: Point, title: str, *lines: str) -> None:
    """What a group does, large enough to be read with the whole graph in view."""
    canvas.note("\n\n".join(f"## {line}" for line in lines if line), at, size, title)


def corner(canvas: Canvas, begin: Start, title: str, *lines: str) -> None:
    """A note below the prompt, or where many loaders leave no room, to the right of that."""
    x, y, width = 0, begin.free + APART, WIDE
    if FLOOR - 60 - y < 120:
        x, y, width = begin.left, begin.low + 95, WIDE
    note(canvas, (x, y), (width, FLOOR - 60 - y), title, *lines)


@dataclass(frozen=True)
class Start:
    """What every workflow begins with: two columns, and below the first one room from `free` on.

    top: where the sampler stands; low: where the second column ends. text: the prompt as it was typed, once,
    for all that read it. vae: on its lane along the floor.
    latent_clip: on its lane along the ceiling, or straight from its node for what stands below.
    """

    model: Output
    clip: Output
    vae: Output
    latent_clip: Output
    text: Output
    prompt: Output
    negative: Output
    empty: Output
    top: float
    free: float
    low: float
    left: float = WIDE + GAP
    right: float = 2 * WIDE + GAP


@dataclass(frozen=True)
class Loaded:
    """The loaders of a world in the first column, from `top` to `end`."""

    model: Output
    clip: Output
    vae: Output
    latent_clip: Output
    top: float
    end: float


def load(canvas: Canvas, world: World, above: bool) -> Loaded:
    """ONE node for the mini world. Elsewhere the Latent-CLIP has its own, above the model or below all."""
    if world.mini:
        node = canvas.node("LatentCLIP_MiniWorld", (0, 0), (WIDE, MINI_HEIGHT))
        judge = node["latent_clip"]
        if above:
            judge = judge.via(*around(MINI_HEIGHT, 0), (-16, CEILING))
        return Loaded(node["model"], node["clip"], node["vae"], judge, 0, MINI_HEIGHT)
    top = JUDGE_HEIGHT + APART if above else 0
    model, clip, vae, end = world.load(canvas, (0, top))
    judge = world.judge(canvas, (0, 0 if above else end + 290))
    return Loaded(model, clip, vae, judge, top, end)


def around(bottom: float, place: int) -> tuple[Point, ...]:
    """Back to the left under a node that ends there: the inner lane (0) goes on up, the outer (1) down."""
    low, on = bottom + 12 + 22 * place, 26 * (1 if place else -1)
    return (
        (WIDE + 12 + 14 * place, low - 28),
        (WIDE - 14 + 10 * place, low),
        (6, low),
        (-16 - 4 * place, low + on),
    )


def start(canvas: Canvas, world: World, prompt: str, batch: int, above: bool = True) -> Start:
    """Loader and prompt in the first column, what it is made into in the second.

    above: who reads the Latent-CLIP stands high, so that its wire runs along the ceiling.
    """
    loaded = load(canvas, world, above)
    top, left, y = loaded.top, WIDE + GAP, loaded.end + 85
    text = canvas.node("PrimitiveStringMultiline", (0, y), (WIDE, TEXT_HEIGHT), "Prompt", {"value": prompt})
    wires = {"clip": loaded.clip, "text": text["STRING"]}
    words = canvas.node("CLIPTextEncode", (left, top + 60), (WIDE, 102), "The prompt, encoded", **wires)
    low, avoid = top + 60 + 102, words
    if world.negative:
        values, at = {"text": world.negative}, (left, low + APART)
        avoid = canvas.node("CLIPTextEncode", at, (WIDE, 102), "Negative prompt", values, clip=loaded.clip)
        low += APART + 102
    size = {"width": world.size, "height": world.size, "batch_size": world.batch or batch}
    empty = canvas.node(world.empty, (left, low + APART), (WIDE, 118), None, size)["LATENT"]
    lane = loaded.vae.via(*around(loaded.end, 1), (-18, LANE))
    free = y + TEXT_HEIGHT if world.mini or above else loaded.end + 290 + JUDGE_HEIGHT
    if world.needs and above:
        note(canvas, (left, 40), (2 * WIDE + 60, 110), "What you need", world.needs)
    return Start(
        loaded.model, loaded.clip, lane, loaded.latent_clip, text["STRING"], words["CONDITIONING"],
        avoid["CONDITIONING"], empty, top, free, low + APART + 118,
    )  # fmt: skip


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
    return canvas.node("KSampler", at, (WIDE, 270), title, settings, **wires)["LATENT"]


def nested(begin: Start) -> Start:
    """The wires up to a sampler right beside the second column, the lower its node the further right."""
    x, y = begin.right, begin.top
    avoid = begin.negative if begin.negative == begin.prompt else begin.negative.via((x + 16, y + 110))
    return replace(begin, negative=avoid, empty=begin.empty.via((x + 30, y + 140)))


def sample(canvas: Canvas, world: World, begin: Start, **values: Any) -> tuple[Output, float]:
    """The one sampler of a plan, right beside its prompts; and where it ends."""
    settings = {**dict(world.sampling), **values}
    return ksampler(canvas, (begin.right + 60, begin.top), nested(begin), **settings), begin.right + 60 + WIDE


def decode(canvas: Canvas, at: Point, latents: Output, vae: Output) -> Output:
    return canvas.node("VAEDecode", at, (WIDE, 54), samples=latents, vae=vae)["IMAGE"]


def below(images: Output, at: Point, height: float) -> Output:
    """A wire from a node of that place and height around its end to one that stands below it."""
    (x, y), right = at, at[0] + WIDE
    return images.via((right + 18, y + 34), (right + 14, y + height + 20), (x - 8, y + height + 32))


def enlarge(canvas: Canvas, at: Point, images: Output) -> Output:
    """The mini world's pictures, four times as large."""
    values = {"upscale_method": "nearest-exact", "scale_by": 4.0}
    return canvas.node("ImageScaleBy", at, (WIDE, 90), "x4", values, image=images)["IMAGE"]


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
        images = enlarge(canvas, (x, y + 130), below(images, at, 54))
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
    images, y = below(images, at, 54), y + 130
    if world.mini:
        images, y = below(enlarge(canvas, (x, y), images), (x, y), 90), y + 170
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
