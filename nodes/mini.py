"""The mini world as MODEL, CLIP, VAE and LATENT_CLIP: the pack's own default, with nothing to download."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io
from torch import Tensor, nn

from . import host
from .host import sockets

if TYPE_CHECKING:
    from ..lclip.mini.world import World


class LoadMiniWorld(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_MiniWorld",
            display_name="Load Mini World",
            category="latent-clip/loaders",
            description="A tiny world of drawn shapes with its own text-to-picture model, VAE and "
            "Latent-CLIP. It comes with the pack, runs on a CPU, and works with the stock samplers. "
            'Pictures are 64x64; write prompts like "a red circle left of a blue square on a white ground".',
            search_aliases=["mini world", "demo model", "toy model", "checkpoint"],
            inputs=[],
            outputs=[
                io.Model.Output(display_name="model", tooltip="A flow model: one step or many, cfg 1 to 4."),
                io.Clip.Output(
                    display_name="clip", tooltip="Its text encoder; it knows the words of the mini world."
                ),
                io.Vae.Output(display_name="vae", tooltip="Its VAE: 8 pixels per latent cell, 4 channels."),
                sockets.LATENT_CLIP.Output(
                    display_name="latent_clip", tooltip="The Latent-CLIP of its latents."
                ),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        from ..lclip.mini.world import WEIGHTS, load_world

        with host.memory.ordinary_tensors():
            world = load_world()
        latent_clip = host.models.load_latent_clip(WEIGHTS / "latent_clip.safetensors", name="mini world")
        return io.NodeOutput(*_parts(world), latent_clip)


class LoadMiniTwin(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_MiniTwin",
            display_name="Load Mini World Twin",
            category="latent-clip/loaders",
            description="The mini world in other latents: a VAE of 16 channels with a scale and a shift of "
            "its own, as FLUX's has, and the generator in these latents. No Latent-CLIP reads them: train a "
            "latent adapter with the mini world's.",
            search_aliases=["mini world", "demo model", "16 channels", "adapter"],
            inputs=[],
            outputs=[
                io.Model.Output(display_name="model", tooltip="A flow model of 16-channel latents."),
                io.Clip.Output(display_name="clip", tooltip="The mini world's text encoder."),
                io.Vae.Output(display_name="vae", tooltip="Its VAE: 8 pixels per latent cell, 16 channels."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        from ..lclip.mini.world import load_twin

        with host.memory.ordinary_tensors():
            twin = load_twin()
        return io.NodeOutput(*_parts(twin))


def _parts(world: World) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE."""
    from ..lclip.mini.vae import FACTOR

    about = world.latent_format
    return (
        host.mini.flow_model(Velocity(world.denoiser), host.spaces.MiniLatentFormat(about)),
        host.mini.text_encoder(TextStage(world.text_encoder), PromptTokenizer(world.tokenizer)),
        host.mini.autoencoder(world.vae, FACTOR, about.channels, about.name),
    )


class Velocity(nn.Module):
    """The generator as a sampler calls it: timesteps count 0..1000; patches have no place in it."""

    dtype = torch.float32

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None, **_: Any) -> Tensor:
        return self.denoiser(x, timesteps / 1000, context)


class TextStage(nn.Module):
    """The text encoder as a CLIP object calls it."""

    dtypes = (torch.float32,)
    disable_offload = True  # tiny, and made of plain layers: kept whole

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def encode_token_weights(self, tokens: dict[str, list[list[tuple[int, float]]]]) -> tuple[Tensor, None]:
        """Token ids -> context [prompts, L, D]. The weights are all 1; there is no pooled vector."""
        device = next(self.encoder.parameters()).device
        ids = torch.tensor([[token for token, _ in prompt] for prompt in tokens["mini"]], device=device)
        return host.memory.to_host(self.encoder(ids)), None

    def set_clip_options(self, options: dict[str, Any]) -> None:
        """There are no layers to stop at: nothing to set."""

    def reset_clip_options(self) -> None:
        """Nothing was set."""

    def load_sd(self, sd: dict[str, Tensor]) -> Any:
        return self.load_state_dict(sd, strict=False)


class PromptTokenizer:
    """The word tokenizer as a CLIP object calls it. Prompts are read as typed: emphasis has no meaning."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_: Any) -> dict[str, list]:
        prompts = self.tokenizer.encode([text]).tolist()
        if return_word_ids:
            return {
                "mini": [[(token, 1.0, place) for place, token in enumerate(prompt)] for prompt in prompts]
            }
        return {"mini": [[(token, 1.0) for token in prompt] for prompt in prompts]}

    def state_dict(self) -> dict[str, Tensor]:
        return {}
