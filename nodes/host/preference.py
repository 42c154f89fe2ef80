"""The preference half of `host`: LRM-XL on a wire, that half of its UNet which rates, of the host's layers.

The host's own loaders take whole models of the released sizes. Here the UNet's way down and its middle alone
are made, as config.json says, and the host loads and offloads them like any model; the two text encoders are
made likewise, and run once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy.model_management as management
import comfy.ops
import comfy.utils
import torch
from comfy.clip_model import CLIPTextModel
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel, forward_timestep_embed
from comfy.ldm.modules.diffusionmodules.util import timestep_embedding
from torch import Tensor, nn

from ... import lclip
from ...lclip.latents.reader import NativeSize
from ...lclip.model.bpe import BPETokenizer
from ...lclip.rewards.preference import GUIDANCE, HEAD, Head, Texts, UNetPreference, check_parts
from ...lclip.rewards.rewards import text_lines
from . import memory, models
from .attention import differentiable_attention
from .gradients import checkpointed
from .patcher import WholePatcher

GROUPS = 32  # of the host's norms
TEXT_SETTINGS = {"hidden_act": "quick_gelu", "max_position_embeddings": 77}
"""Where transformers' config.json leaves them out."""
MEMORY = 0.01 * 0.8 * 2**20
"""Bytes of a pass for each cell and byte of a number: what the host itself reserves for SDXL's UNet."""
GRADIENT_MEMORY = 2
"""What a gradient keeps, in multiples of a pass: the blocks' inputs, and the inside of one block.
Reckoned from the shapes; not measured on a GPU."""


class RatingUNet(nn.Module):
    """The way down and the middle of SDXL's UNet. settings: as a diffusers UNet's config.json has them."""

    def __init__(self, settings: dict[str, Any], dtype: torch.dtype) -> None:
        """ValueError for a UNet of another kind."""
        super().__init__()
        known = _host_settings(settings)
        self.network = UNetModel(**known, dtype=dtype, operations=comfy.ops.manual_cast)
        self.network.output_blocks, self.network.out = nn.ModuleList(), nn.Identity()
        self.names = comfy.utils.unet_to_diffusers(known)
        repeats = known["num_res_blocks"]
        self.ends = [sum(repeats[: n + 1]) + n for n in range(len(repeats))]
        self.widths = tuple(settings["block_out_channels"])
        self.side = settings.get("sample_size") or 128  # cells
        self.time_width = settings.get("addition_time_embed_dim") or 256
        self.dtype = dtype

    def load(self, weights: dict[str, Tensor]) -> None:
        """Weights by diffusers' names; those of the way up are left. ValueError where one does not fit."""
        own = self.network.state_dict()
        given = {self.names[theirs]: theirs for theirs in weights if self.names.get(theirs) in own}
        if missing := [ours for ours in own if ours not in given]:
            called = next((theirs for theirs, ours in self.names.items() if ours == missing[0]), missing[0])
            raise ValueError(
                f"the UNet's file has no {called}; expected the UNet of LRM-XL as diffusers saves it"
            )
        for ours, theirs in given.items():
            if weights[theirs].shape != own[ours].shape:
                raise ValueError(
                    f"the UNet's {theirs} has shape {list(weights[theirs].shape)}, its config.json says "
                    f"{list(own[ours].shape)}; expected the files of one model"
                )
        self.network.load_state_dict({ours: weights[theirs] for ours, theirs in given.items()})

    def forward(self, z: Tensor, texts: Texts) -> tuple[list[Tensor], Tensor]:
        """As `UNetPreference.blocks`; the noise that it is told of is none."""
        network, side = self.network, 8 * self.side
        z = z.to(self.dtype)
        sizes = torch.tensor([side, side, 0, 0, side, side], device=z.device)
        sizes = timestep_embedding(sizes, self.time_width).flatten().expand(len(z), -1)
        added = torch.cat([texts.pooled.to(z), sizes.to(z)], dim=1)
        times = timestep_embedding(torch.zeros(len(z), device=z.device), network.model_channels)
        told = network.time_embed(times.to(z)) + network.label_emb(added)
        options = {"optimized_attention_override": differentiable_attention}
        stages, words = [], texts.hidden.to(z)
        for place, block in enumerate(network.input_blocks):
            z = forward_timestep_embed(block, z, told, words, options)
            stages += [z] if place in self.ends else []
        return stages, forward_timestep_embed(network.middle_block, z, told, words, options)


class LoadedPreference(models.LoadedLatentCLIP):
    """A preference model's UNet among the models of a LATENT_REWARD: it has no embedding."""

    embeds = False

    def __init__(self, unet: RatingUNet, name: str) -> None:
        self.model, self.name = unet, name
        self.patcher = WholePatcher(unet, management.get_torch_device(), management.unet_offload_device())
        self.reader = NativeSize(lclip.space_named("sdxl"), unet.side)

    @property
    def config(self) -> Any:
        return self.reader

    def working_memory(self, latents: Tensor) -> int:
        """Bytes for a pass: of one item, with and without its text."""
        return int(2 * latents.shape[-2] * latents.shape[-1] * self.model.dtype.itemsize * MEMORY)

    def gradient_memory(self, height: int, width: int, items: int) -> int:
        return GRADIENT_MEMORY * items * self.working_memory(torch.empty(1, 4, height, width, device="meta"))


class HostPreference(UNetPreference):
    """The reward, asked where the host has loaded the UNet, item by item."""

    def __init__(self, loaded: LoadedPreference, head: Head, texts: Texts, prompt: str, **more: Any) -> None:
        super().__init__(head, texts, prompt, at_once=1, **more)
        self.loaded = loaded

    def blocks(self, z: Tensor, texts: Texts) -> tuple[list[Tensor], Tensor]:
        unet = self.loaded.model
        lean = torch.is_grad_enabled() and z.requires_grad
        with checkpointed(unet if lean else None):
            return unet(z.to(self.loaded.patcher.load_device), texts)


def preference_reward(path: str | Path, prompt: str, weight: float) -> models.WiredReward:
    """A preference model as it goes onto a wire. path: its state_dict.pt, beside which the rest lies.

    Raises FileNotFoundError, ValueError, CheckpointError.
    """
    prompt = " ".join(text_lines(prompt))
    folder = Path(path).parent
    check_parts(folder)
    on_cpu = management.is_device_cpu(management.get_torch_device())
    with memory.ordinary_tensors():
        unet = RatingUNet(_settings(folder / "unet"), torch.float32 if on_cpu else torch.float16)
        head = Head.read(folder / HEAD, unet.widths)
        unet.load(_weights(folder / "unet"))
        texts = _texts(folder, prompt)
        loaded = LoadedPreference(unet.eval().requires_grad_(False), folder.name)
        reward = HostPreference(loaded, head, texts, prompt, weight=weight, guidance=GUIDANCE)
    return models.wire_reward(reward, (loaded,))


def token_ids(tokenizer: BPETokenizer, prompt: str) -> list[Tensor]:
    """Of the prompt and of no text, padded as in SDXL: one encoder's with the end, the other's by 0."""
    ids = tokenizer.encode([prompt, ""])
    after = (ids == tokenizer.end).cumsum(1) > 0
    return [ids.masked_fill(after, tokenizer.end), ids]


def _texts(folder: Path, prompt: str) -> Texts:
    """What the two text encoders make of the prompt and of no text, on the CPU. ValueError."""
    hidden, pooled, tokenizer = [], torch.empty(0), BPETokenizer(77)
    for part, ids in zip(("text_encoder", "text_encoder_2"), token_ids(tokenizer, prompt), strict=True):
        encoder = _text_encoder(folder / part, tokenizer.end)
        _, before_last, pooled, _ = encoder(
            ids, intermediate_output=-2, final_layer_norm_intermediate=False, dtype=torch.float32
        )
        hidden.append(before_last)
    return Texts(torch.cat(hidden, dim=-1), pooled)


def _text_encoder(folder: Path, end: int) -> Any:
    """A CLIP text encoder as transformers saves it, in float32. The first of the two has no projection."""
    settings, own = {"eos_token_id": end}, "text_model."
    try:
        settings = {**TEXT_SETTINGS, **_settings(folder), **settings}
        encoder = CLIPTextModel(settings, torch.float32, None, comfy.ops.manual_cast)
        wanted = encoder.state_dict()
        found = {name.removeprefix(own): tensor.float() for name, tensor in _weights(folder).items()}
        found.setdefault("text_projection.weight", torch.eye(settings["hidden_size"]))
        encoder.load_state_dict({name: found[name.removeprefix(own)] for name in wanted})
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{folder} is no text encoder of SDXL ({type(error).__name__}: {error!s:.160}); expected "
            "LRM-XL's, as transformers saves it"
        ) from error
    return encoder.eval()


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"the preference model has no {path}; expected it beside the weights")
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}. Copy the preference model again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}; expected diffusers' config.json")
    return found


def _host_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """A diffusers UNet's settings as the host's UNet takes them. ValueError for what is not SDXL's kind."""
    try:
        widths, kinds = settings["block_out_channels"], settings["down_block_types"]
        heads = _each(settings.get("num_attention_heads") or settings["attention_head_dim"], len(widths))
        depths = _each(settings.get("transformer_layers_per_block") or 1, len(widths))
        repeats = _each(settings["layers_per_block"], len(widths))
        attends = [kind == "CrossAttnDownBlock2D" for kind in kinds]
        sizes = {width // head for width, head, used in zip(widths, heads, attends, strict=True) if used}
        (size,) = sizes
        if settings.get("norm_num_groups", GROUPS) != GROUPS or not attends[-1]:
            raise ValueError(f"norms of {settings.get('norm_num_groups')} groups, blocks {kinds}")
        return {
            "image_size": 32,
            "in_channels": settings["in_channels"],
            "out_channels": settings["in_channels"],
            "model_channels": widths[0],
            "channel_mult": [width // widths[0] for width in widths],
            "num_res_blocks": repeats,
            "transformer_depth": [
                depth * used
                for depth, used, many in zip(depths, attends, repeats, strict=True)
                for _ in range(many)
            ],
            "transformer_depth_output": [0] * sum(many + 1 for many in repeats),
            "transformer_depth_middle": depths[-1],
            "context_dim": settings["cross_attention_dim"],
            "num_head_channels": size,
            "use_spatial_transformer": True,
            "use_linear_in_transformer": bool(settings.get("use_linear_projection")),
            "legacy": False,
            "num_classes": "sequential",
            "adm_in_channels": settings["projection_class_embeddings_input_dim"],
        }
    except (KeyError, TypeError, ValueError, ZeroDivisionError, IndexError) as error:
        raise ValueError(
            f"the UNet's config.json is not that of an SDXL UNet ({type(error).__name__}: {error}); expected "
            "LRM-XL's unet folder, as diffusers saves it"
        ) from error


def _each(value: Any, count: int) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value] * count


def _weights(folder: Path) -> dict[str, Tensor]:
    """Of one file, or of all shards. A half-precision copy beside the whole file is not needed."""
    plain = [folder / f"{name}.safetensors" for name in ("diffusion_pytorch_model", "model")]
    files = [file for file in plain if file.is_file()] or sorted(folder.glob("*-of-*.safetensors"))
    files = files or sorted(folder.glob("*.safetensors"))[:1]
    if not files:
        raise FileNotFoundError(f"there are no weights in {folder}; expected safetensors beside config.json")
    found: dict[str, Tensor] = {}
    for file in files:
        found.update(comfy.utils.load_torch_file(str(file), safe_load=True))
    return found
