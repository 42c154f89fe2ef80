"""Reading CLIPs that see pictures, in open_clip's layout and in that of Hugging Face's transformers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.checkpoint import load, normalise_keys, read_weights
from ..checkpoints.weights import check_tensors, check_weights
from ..errors import CheckpointError
from ..latents.resampling import resample
from ..model.config import config_from_state_dict
from ..model.latent_clip import LatentCLIP

# What the pictures of nearly all CLIPs are normalised by (arXiv 2103.00020's released code).
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
FILES = (
    "open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors", "pytorch_model.bin",
)  # fmt: skip
# Heads are 64 wide, but for the image towers of ViT-H, ViT-g and ViT-bigG.
WIDE_HEADS = {1280: 80, 1408: 88, 1664: 104}
LEFT_OUT = re.compile(r".*position_ids|attn_mask|input_resolution|context_length|vocab_size")
HF_NAMES = (
    (r"(?:text_model|vision_model)\.encoder\.layers\.(\d+)\.(.*)", r"transformer.resblocks.\1.\2"),
    (r"\.layer_norm1\.", ".ln_1."),
    (r"\.layer_norm2\.", ".ln_2."),
    (r"\.self_attn\.", ".attn."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
    (r"vision_model\.embeddings\.class_embedding", "class_embedding"),
    (r"vision_model\.embeddings\.patch_embedding\.", "conv1."),
    (r"(?:vision|text)_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"vision_model\.pre_layrnorm\.", "ln_pre."),
    (r"vision_model\.post_layernorm\.", "ln_post."),
    (r"visual_projection\.weight", "visual.proj"),
    (r"text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"text_model\.final_layer_norm\.", "ln_final."),
    (r"text_projection\.weight", "text_projection"),
)


@dataclass(frozen=True)
class PixelCLIP:
    """A CLIP that reads pictures: the same two towers, with pixels for latents.

    mean, std: what each colour is normalised by.
    """

    model: LatentCLIP
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    @property
    def side(self) -> int:
        """Of the pictures it reads, in pixels."""
        return self.model.config.native_size

    def normalise(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, side, side] in 0..1 as the tower takes them."""
        if pixels.shape[-2:] != (self.side, self.side):
            pixels = resample(pixels, self.side, self.side, "bicubic").clamp(0, 1)
        mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (pixels - mean) / std

    @torch.no_grad()
    def embed(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in 0..1 -> [B, D], each of length 1."""
        return self.model.encode_latents(self.normalise(pixels))


def read_pixel_clip(
    path: Path, activation: str | None = None, device: torch.device | str = "cpu"
) -> PixelCLIP:
    """Load a CLIP that reads pictures, frozen, in float32.

    path: a file of weights or the folder that it is in; a configuration beside it is read. activation: "gelu"
    or "quick_gelu" where no configuration says; weights from OpenAI, and some others, need the latter.
    Nothing in a file is run. Raises FileNotFoundError, CheckpointError.
    """
    file = _weights_file(path)
    raw, metadata = read_weights(file)
    if metadata.get("format") == "latent-clip":
        return _ours(file, device)
    try:
        weights, said, in_hf_layout = _translated(raw, file)
        said["activation"] = activation or said.get("activation") or _activation_unsaid(in_hf_layout)
        config = config_from_state_dict(weights, {**said, "latent_space": "pixels"})
        if config.channels != 3:
            raise CheckpointError(f"it reads {config.channels} channels; expected one that reads pictures")
        check_weights(weights, config, file)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: no CLIP that can be begun from: {error}") from error
    model = LatentCLIP(config, device="meta")
    copied = {name: tensor.to(device, torch.float32, copy=True) for name, tensor in weights.items()}
    model.load_state_dict(copied, assign=True)
    return PixelCLIP(model.eval().requires_grad_(False), *_normalisation(file.parent))


def _translated(raw: dict[str, Any], file: Path) -> tuple[dict[str, Tensor], dict[str, Any], bool]:
    """Weights under our names, what a configuration says of them, and whether they were in HF's layout."""
    raw = {name: value for name, value in raw.items() if not LEFT_OUT.fullmatch(name.removeprefix("module."))}
    check_tensors(raw, file)
    in_hf_layout = any(name.startswith("vision_model.") for name in raw)
    weights = normalise_keys(_from_hf(raw) if in_hf_layout else _from_open_clip(raw))
    about = _read_json(file.parent / ("config.json" if in_hf_layout else "open_clip_config.json"))
    said = _hf_settings(about) if in_hf_layout else _open_clip_settings(about)
    width = weights["visual.conv1.weight"].shape[0] if "visual.conv1.weight" in weights else 0
    if width in WIDE_HEADS:
        said.setdefault("vision_heads", width // WIDE_HEADS[width])
    return weights, said, in_hf_layout


def _ours(file: Path, device: torch.device | str) -> PixelCLIP:
    model = load(file, device)
    if model.config.channels != 3:
        raise CheckpointError(f"{file} is a Latent-CLIP; expected a CLIP that reads pictures (3 channels)")
    return PixelCLIP(model, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def _weights_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in FILES:
        if (path / name).is_file():
            return path / name
    raise FileNotFoundError(f"no weights in {path}; expected one of {', '.join(FILES)}")


def _from_open_clip(raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Some of its classes keep the text tower behind `text.`."""
    return {re.sub(r"^(module\.)?text\.", r"\1", name): value for name, value in raw.items()}


def _from_hf(raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' CLIPModel: other names, queries, keys and values apart, projections transposed."""
    weights: dict[str, Tensor] = {}
    for name, value in raw.items():
        ours = name
        for pattern, replacement in HF_NAMES:
            ours = re.sub(pattern, replacement, ours)
        in_vision = name.startswith("vision_model.")
        weights[f"visual.{ours}" if in_vision else ours] = value.T if "_projection.weight" in name else value
    for query in [name for name in weights if ".attn.q_proj." in name]:
        parts = [query.replace(".q_proj.", f".{letter}_proj.") for letter in "qkv"]
        if all(part in weights for part in parts):
            joined = torch.cat([weights.pop(part) for part in parts])
            weights[query.replace(".q_proj.", ".in_proj_")] = joined
    return weights


def _hf_settings(about: Mapping[str, Any]) -> dict[str, Any]:
    """What a config.json of transformers says beyond the shapes. Its default activation is quick_gelu."""
    if not about:
        return {}
    towers = {"text": about.get("text_config") or {}, "vision": about.get("vision_config") or {}}
    acts = {tower.get("hidden_act", "quick_gelu") for tower in towers.values()}
    norms = {float(tower.get("layer_norm_eps", 1e-5)) for tower in towers.values()}
    if len(acts) != 1 or norms != {1e-5}:
        raise CheckpointError(
            f"its towers use {sorted(acts)} and layer norms with eps {sorted(norms)}; expected one "
            "activation for both, and 1e-05"
        )
    heads = {"text_heads": (towers["text"], 8), "vision_heads": (towers["vision"], 12)}
    return {
        "activation": acts.pop(),
        **{name: int(tower.get("num_attention_heads", usual)) for name, (tower, usual) in heads.items()},
    }


def _open_clip_settings(about: Mapping[str, Any]) -> dict[str, Any]:
    """What an open_clip_config.json says beyond the shapes."""
    model = about.get("model_cfg", {})
    if not model:
        return {}
    vision, text = model.get("vision_cfg", {}), model.get("text_cfg", {})
    said: dict[str, Any] = {"activation": "quick_gelu" if model.get("quick_gelu") else "gelu"}
    if "width" in vision:
        said["vision_heads"] = int(vision["width"]) // int(vision.get("head_width", 64))
    if "heads" in text:
        said["text_heads"] = int(text["heads"])
    return said


def _activation_unsaid(in_hf_layout: bool) -> str:
    if in_hf_layout:
        raise CheckpointError(
            "no config.json beside it says which activation it uses; expected 'gelu' or 'quick_gelu'"
        )
    return "gelu"  # open_clip's own default


def _normalisation(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    said = _read_json(folder / "open_clip_config.json").get("preprocess_cfg") or {}
    hf = _read_json(folder / "preprocessor_config.json")
    mean = said.get("mean") or hf.get("image_mean") or MEAN
    std = said.get("std") or hf.get("image_std") or STD
    return tuple(map(float, mean)), tuple(map(float, std))


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected an object")
    return content
