"""Two ways to name the same weights: as Latent-CLIP files do, and as transformers' CLIPModel does.

A Latent-CLIP is a CLIPModel whose pictures have the latents' channels. Only names differ, queries, keys and
values stand apart there, and both projections are stored the other way round.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..model.config import LatentCLIPConfig
from ..model.transformer import ACTIVATIONS

EPS = 1e-5  # of every layer norm
PLAIN = {
    "logit_scale": "logit_scale",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
}
NORMS = {
    "ln_final": "text_model.final_layer_norm",
    "visual.ln_pre": "vision_model.pre_layrnorm",  # as it is spelled there
    "visual.ln_post": "vision_model.post_layernorm",
}
PLAIN |= {f"{a}.{part}": f"{b}.{part}" for a, b in NORMS.items() for part in ("weight", "bias")}
TURNED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
TOWERS = {"visual.transformer.resblocks.": "vision_model.", "transformer.resblocks.": "text_model."}
BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
PARTS = ("q", "k", "v")

_OURS = re.compile(r"((?:visual\.)?transformer\.resblocks\.)(\d+)\.(.+?)[._](weight|bias)")
_THEIRS = re.compile(r"((?:vision|text)_model\.)encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")


def to_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under their stored names -> the same numbers as a CLIPModel names them."""
    return {name: tensor for item in weights.items() for name, tensor in _renamed(*item)}


def _renamed(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    if name in PLAIN:
        yield PLAIN[name], tensor
    elif name in TURNED:
        yield TURNED[name], tensor.T
    elif match := _OURS.fullmatch(name):
        tower, layer, part, kind = match.groups()
        block = f"{TOWERS[tower]}encoder.layers.{layer}"
        if part != "attn.in_proj":
            yield f"{block}.{BLOCK[part]}.{kind}", tensor
            return
        for letter, third in zip(PARTS, tensor.chunk(3), strict=True):
            yield f"{block}.self_attn.{letter}_proj.{kind}", third


def from_transformers(raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A CLIPModel's weights under their stored names; a name that is unknown there stays as it is.

    Raises CheckpointError where queries, keys and values are not all there, or do not fit each other.
    """
    plain = {theirs: ours for ours, theirs in PLAIN.items()}
    turned = {theirs: ours for ours, theirs in TURNED.items()}
    weights: dict[str, Tensor] = {}
    for name, tensor in raw.items():
        if name.endswith(".position_ids"):  # 0, 1, 2, ..., as files before transformers 4.31 hold them
            continue
        if name in turned and tensor.ndim == 2:
            weights[turned[name]] = tensor.T
        elif match := _THEIRS.fullmatch(name):
            weights.update(_block_part(raw, name, *match.groups()))
        else:
            weights[plain.get(name, name)] = tensor
    return weights


def _block_part(
    raw: Mapping[str, Tensor], name: str, tower: str, layer: str, part: str, kind: str
) -> dict[str, Tensor]:
    towers = {theirs: ours for ours, theirs in TOWERS.items()}
    parts = {theirs: ours for ours, theirs in BLOCK.items()}
    if part in parts:
        return {f"{towers[tower]}{layer}.{parts[part]}.{kind}": raw[name]}
    letters = {f"self_attn.{letter}_proj": letter for letter in PARTS}
    if part not in letters:
        return {name: raw[name]}
    if letters[part] != "q":
        query = name.replace(f"{letters[part]}_proj", "q_proj")
        if query not in raw:
            raise CheckpointError(f"incomplete: {query!r} is missing")
        return {}
    names = [name.replace("q_proj", f"{letter}_proj") for letter in PARTS]
    if missing := [each for each in names if each not in raw]:
        raise CheckpointError(f"incomplete: {missing[0]!r} is missing")
    thirds = [raw[each] for each in names]
    if len({third.shape for third in thirds}) > 1:
        shapes = ", ".join(str(list(third.shape)) for third in thirds)
        raise CheckpointError(f"a different architecture: {name!r}, its keys and values have shapes {shapes}")
    return {f"{towers[tower]}{layer}.attn.in_proj_{kind}": torch.cat(thirds)}


def clip_model_config(config: LatentCLIPConfig) -> dict[str, Any]:
    """What a CLIPModel's config.json says of such a model.

    Its text feature is taken at the first `eos_token_id`, which is our rule of the highest id.
    """
    both = {"hidden_act": config.activation, "layer_norm_eps": EPS, "projection_dim": config.embed_dim}
    words = config.tokenizer == "words"
    text = {
        **_tower(config, "text"),
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "bos_token_id": 2 if words else config.vocab_size - 2,
        "eos_token_id": config.vocab_size - 1,
        "pad_token_id": 0 if words else config.vocab_size - 1,
    }
    vision = {
        **_tower(config, "vision"),
        "num_channels": config.channels,
        "image_size": config.native_size,
        "patch_size": config.patch_size,
    }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config.embed_dim,
        "text_config": {"model_type": "clip_text_model", **text, **both},
        "vision_config": {"model_type": "clip_vision_model", **vision, **both},
    }


def _tower(config: LatentCLIPConfig, name: str) -> dict[str, int]:
    width = getattr(config, f"{name}_width")
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": getattr(config, f"{name}_layers"),
        "num_attention_heads": getattr(config, f"{name}_heads"),
    }


def said_by_clip_model(about: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes cannot tell, from a config.json: heads and activation. Raises CheckpointError."""
    if (kind := about.get("model_type")) != "clip":
        raise CheckpointError(f"config.json: model_type is {kind!r}; expected 'clip', a CLIPModel")
    vision, text = (_part(about, f"{tower}_config") for tower in ("vision", "text"))
    acts = {part.get("hidden_act", "quick_gelu") for part in (vision, text)}  # their default
    if len(acts) > 1 or not acts <= set(ACTIVATIONS):
        raise CheckpointError(
            f"config.json: hidden_act is {' and '.join(sorted(map(repr, acts)))}; expected "
            f"{' or '.join(map(repr, ACTIVATIONS))}, the same in both towers"
        )
    if any(part.get("layer_norm_eps", EPS) != EPS for part in (vision, text)):
        raise CheckpointError(f"config.json: a layer_norm_eps is not {EPS}; Latent-CLIP has no other")
    end, tokens = text.get("eos_token_id", 49407), text.get("vocab_size", 49408)
    if end not in (2, tokens - 1):  # 2: of before transformers 4.31, and read as the highest id
        raise CheckpointError(
            f"config.json: eos_token_id is {end!r} of {tokens!r} tokens; expected the highest, at which the "
            "text's feature is taken"
        )
    heads = {"vision_heads": (vision, 12), "text_heads": (text, 8)}
    found = {name: part.get("num_attention_heads", usual) for name, (part, usual) in heads.items()}
    return {**found, "activation": acts.pop()}


def _part(about: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = about.get(name)
    if not isinstance(part, dict):
        raise CheckpointError(f"config.json: {name} is {part!r}; expected an object")
    return part
