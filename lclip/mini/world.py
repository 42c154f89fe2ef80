"""The mini world's trained models, loaded from the files beside this one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import nn

from ..checkpoints.checkpoint import load
from ..checkpoints.formats import Format
from ..checkpoints.tensors import TensorFile, open_tensors
from ..errors import CheckpointError
from ..model.latent_clip import LatentCLIP
from ..model.tokenizer import WordTokenizer
from .generator import Denoiser, TextEncoder
from .twin import TwinDenoiser, TwinWays
from .vae import MiniVAE, twin_vae

WEIGHTS = Path(__file__).parent / "weights"
HALF = "half.safetensors"  # its size map
ALONE = "alone.safetensors"  # a Latent-CLIP that had no teacher
FORMAT = Format("latent-clip-mini", "file of the mini world")

M = TypeVar("M", bound=nn.Module)
Change = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class LatentFormat:
    """How the mini VAE's latents are scaled for sampling and roughly seen without decoding.

    Sampling works on (raw latents - `shift`) times `scale_factor`. A preview's RGB in -1..1 is
    `scaled latents @ rgb_factors + rgb_bias`, [channels] @ [channels, 3] + [3].
    """

    name: str
    scale_factor: float
    channels: int
    rgb_factors: list[list[float]]
    rgb_bias: list[float]
    shift: float = 0.0

    def to_raw(self, scaled: torch.Tensor) -> torch.Tensor:
        """Latents as a VAE makes them, from latents as a sampler has them."""
        return scaled / self.scale_factor + self.shift


@dataclass(frozen=True)
class World:
    """The mini world: every model frozen, float32, on one device.

    In the twin, VAE and denoiser make 16-channel latents, and latent_clip reads the 4-channel ones until an
    adapter is applied to it (`dataclasses.replace(twin, latent_clip=lclip.apply_adapter(...))`).
    """

    vae: MiniVAE
    text_encoder: TextEncoder
    tokenizer: WordTokenizer
    denoiser: Denoiser | TwinDenoiser
    latent_clip: LatentCLIP
    pixel_clip: LatentCLIP
    latent_format: LatentFormat

    def generate(
        self, prompts: Sequence[str], noise: torch.Tensor, steps: int = 1, change: Change | None = None
    ) -> torch.Tensor:
        """Clean raw latents [B, channels, 8, 8] of standard normal noise of that shape, differentiable in it.

        Euler steps of the flow from t = 1 to 0 (Liu et al. 2022); one prompt serves the whole batch. `change`
        may replace each step's predicted x0, in unit scale, as guidance does. Raises ValueError when prompts
        and noise do not fit.
        """
        context = self.context(prompts, len(noise))
        return self.latent_format.to_raw(generate_from(self.denoiser, context, noise, steps, change))

    def generator(self, prompts: Sequence[str], steps: int = 1):
        """The function noise -> clean raw latents for fixed prompts, their text encoded once."""
        context = self.context(prompts, len(prompts))

        def generate(noise: torch.Tensor) -> torch.Tensor:
            spread = _spread(context, len(noise))
            return self.latent_format.to_raw(generate_from(self.denoiser, spread, noise, steps))

        return generate

    def context(self, prompts: Sequence[str], batch: int) -> torch.Tensor:
        """Text conditioning [batch, L, D]; one prompt is repeated."""
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        ids = self.tokenizer.encode(prompts).to(self.device)
        with torch.no_grad():
            return _spread(self.text_encoder(ids), batch)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Raw latents of pixels [B, 3, H, W] in 0..1."""
        return self.vae.encode(pixels * 2.0 - 1.0)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels [B, 3, H, W] in 0..1 of raw latents."""
        return ((self.vae.decode(latents) + 1.0) / 2.0).clamp(0.0, 1.0)

    @property
    def scale_factor(self) -> float:
        """What raw latents are multiplied by for sampling."""
        return self.latent_format.scale_factor

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return next(self.denoiser.parameters()).device


def generate_from(
    denoiser: nn.Module,
    context: torch.Tensor,
    noise: torch.Tensor,
    steps: int,
    change: Change | None = None,
) -> torch.Tensor:
    """Unit-scale clean latents [B, channels, 8, 8] by Euler steps from noise at t = 1."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    x = noise
    for step in range(steps):
        t = x.new_full((len(x),), 1.0 - step / steps)
        velocity = denoiser(x, t, context)
        if change is None:
            x = x - velocity / steps
            continue
        x0 = change(x - t.view(-1, 1, 1, 1) * velocity)
        x = x0 + (steps - step - 1) / (steps - step) * (x - x0)
    return x


def _spread(context: torch.Tensor, batch: int) -> torch.Tensor:
    if len(context) not in (1, batch):
        raise ValueError(f"got {len(context)} prompts for a batch of {batch}; give one, or one per item")
    return context.expand(batch, -1, -1)


def load_world(
    device: torch.device | str = "cpu", folder: Path = WEIGHTS, latent_clip: LatentCLIP | None = None
) -> World:
    """Load the shipped models.

    latent_clip: in place of the shipped one; moved to `device` and otherwise left as it is, frozen or not.
    Raises FileNotFoundError or CheckpointError when the files are damaged or its tokenizer is another one.
    """
    vae, _ = load_module(MiniVAE(), folder / "vae.safetensors")
    latent_clip = (latent_clip or load(folder / "latent_clip.safetensors")).to(device)
    tokenizer = latent_clip.tokenizer
    if not isinstance(tokenizer, WordTokenizer):
        raise CheckpointError(
            f"the Latent-CLIP's tokenizer is a {type(tokenizer).__name__}; expected the mini world's words"
        )
    both = nn.ModuleDict({"text_encoder": TextEncoder(tokenizer.vocab_size), "denoiser": Denoiser()})
    load_module(both, folder / "generator.safetensors")
    both.to(device)
    return World(
        vae=vae.to(device),
        text_encoder=cast(TextEncoder, both["text_encoder"]),
        tokenizer=tokenizer,
        denoiser=cast(Denoiser, both["denoiser"]),
        latent_clip=latent_clip,
        pixel_clip=load(folder / "pixel_clip.safetensors", device),
        latent_format=load_latent_format(folder),
    )


def load_latent_clip(
    path: str | os.PathLike[str] = WEIGHTS / "latent_clip.safetensors",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> LatentCLIP:
    """As `lclip.load`, where the mini world's spaces are known; by default its own Latent-CLIP."""
    return load(path, device, dtype)


def load_twin(device: torch.device | str = "cpu", folder: Path = WEIGHTS) -> World:
    """Load the 16-channel twin; see `World`. Raises FileNotFoundError or CheckpointError."""
    world = load_world(device, folder)
    vae, _ = load_module(twin_vae(), folder / "vae16.safetensors")
    ways, _ = load_module(TwinWays(), folder / "generator16.safetensors")
    return replace(
        world,
        vae=vae.to(device),
        denoiser=TwinDenoiser(cast(Denoiser, world.denoiser), ways.to(device)),
        latent_format=load_latent_format(folder, "vae16"),
    )


def load_latent_format(folder: Path = WEIGHTS, vae: str = "vae") -> LatentFormat:
    """The scale and preview colours of a VAE's latents ("vae" or the twin's "vae16"), loading no model."""
    with _opened(folder / f"{vae}.safetensors") as (_, about):
        return LatentFormat(**about["latent_format"])


def load_module(module: M, path: Path) -> tuple[M, dict]:
    """Fill a module, frozen and in float32, from a file of the world; returns it with the file's notes."""
    with _opened(path) as (file, about):
        weights = {name: tensor.float() for name, tensor in file.all().items()}
    module.load_state_dict(weights)
    return module.eval().requires_grad_(False), about


@contextmanager
def _opened(path: Path) -> Iterator[tuple[TensorFile, dict]]:
    """One of the world's files and its notes. Raises FileNotFoundError or CheckpointError."""
    try:
        with open_tensors(path) as file:
            about = json.loads(file.metadata.get("about", "{}"))
            FORMAT.check({"format": FORMAT.name, **about})  # the first files said only the version
            yield file, about
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the mini world's file {path} is missing; install the pack again") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: {error} Install the pack again") from error
