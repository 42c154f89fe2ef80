"""The shape of a Latent-CLIP, read off its weights."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..errors import CheckpointError
from ..latents.spaces import LATENT_SPACES, LatentSpace
from .transformer import ACTIVATIONS

HEAD_WIDTH = 64  # every released model of the family splits its width into heads of 64


@dataclass(frozen=True)
class LatentCLIPConfig:
    """The sizes of both towers. A wrong combination raises ValueError."""

    embed_dim: int  # of the shared embedding
    channels: int  # of the latents
    patch_size: int  # latent cells per token, each way
    grid: int  # tokens a side at the native size
    vision_width: int
    vision_layers: int
    vision_heads: int
    text_width: int
    text_layers: int
    text_heads: int
    context_length: int  # tokens a prompt may have, start and end included
    vocab_size: int
    latent_space: str = "sdxl"
    tokenizer: str = "clip-bpe"  # or "words"
    activation: str = "gelu"  # or "quick_gelu", of both towers

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("latent_space", "tokenizer", "activation"):
                if not isinstance(value, str) or not value:
                    raise ValueError(f"config: {field.name} is {value!r}; expected a name")
            elif not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"config: {field.name} is {value!r}; expected a whole number of at least 1")
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"config: activation is {self.activation!r}; expected {' or '.join(map(repr, ACTIVATIONS))}"
            )
        for tower in ("vision", "text"):
            width, heads = getattr(self, f"{tower}_width"), getattr(self, f"{tower}_heads")
            if width % heads:
                raise ValueError(f"config: {tower}_width {width} cannot be split into {heads} equal heads")

    @property
    def native_size(self) -> int:
        """Side of the square latents that the model was trained on, in latent cells."""
        return self.grid * self.patch_size

    @property
    def space(self) -> LatentSpace | None:
        """The known latent space of that name, or None."""
        return LATENT_SPACES.get(self.latent_space)

    def to_json(self) -> str:
        entries = asdict(self)
        if self.activation == "gelu":
            del entries["activation"]  # so that files from before there was a choice keep their fingerprints
        return json.dumps(entries, sort_keys=True)


def config_from_state_dict(
    weights: Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> LatentCLIPConfig:
    """The configuration that these weights were made for.

    weights: tensors (or anything with a .shape) under the names that `checkpoint.normalise_keys` gives.
    overrides: what shapes cannot tell (heads, latent_space, tokenizer, activation); anything else in it must
    agree with the weights. Raises CheckpointError where a tensor is missing, has the wrong rank, or
    contradicts.
    """
    _, channels, patch_size, _ = _shape(weights, "visual.conv1.weight", 4)
    vision_tokens, vision_width = _shape(weights, "visual.positional_embedding", 2)
    _, embed_dim = _shape(weights, "visual.proj", 2)
    vocab_size, text_width = _shape(weights, "token_embedding.weight", 2)
    context_length, _ = _shape(weights, "positional_embedding", 2)
    grid = math.isqrt(max(vision_tokens - 1, 0))
    if grid * grid != vision_tokens - 1 or grid < 1:
        raise CheckpointError(
            f"visual.positional_embedding has {vision_tokens} rows; expected one plus a square number "
            "(a class token and a square grid)"
        )
    found: dict[str, Any] = {
        "embed_dim": embed_dim,
        "channels": channels,
        "patch_size": patch_size,
        "grid": grid,
        "vision_width": vision_width,
        "vision_layers": _count_layers(weights, "visual.transformer.resblocks."),
        "vision_heads": max(1, vision_width // HEAD_WIDTH),
        "text_width": text_width,
        "text_layers": _count_layers(weights, "transformer.resblocks."),
        "text_heads": max(1, text_width // HEAD_WIDTH),
        "context_length": context_length,
        "vocab_size": vocab_size,
        "latent_space": "sdxl" if channels == 4 else f"unknown ({channels} channels)",
    }
    return _with_overrides(found, overrides or {})


def _with_overrides(found: dict[str, Any], overrides: Mapping[str, Any]) -> LatentCLIPConfig:
    known = {field.name for field in fields(LatentCLIPConfig)}
    free = {"vision_heads", "text_heads", "latent_space", "tokenizer", "activation"}
    for name, value in overrides.items():
        if name not in known:
            raise CheckpointError(
                f"the file's config has an unknown entry {name!r}; it may be of a newer version"
            )
        if name in free:
            found[name] = value
        elif found[name] != value:
            raise CheckpointError(
                f"the file's config says {name} = {value!r}, its weights say {found[name]!r}"
            )
    try:
        return LatentCLIPConfig(**found)
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def _shape(weights: Mapping[str, Any], name: str, rank: int) -> tuple[int, ...]:
    if name not in weights:
        raise CheckpointError(f"not a Latent-CLIP: the weight {name!r} is missing")
    shape = tuple(getattr(weights[name], "shape", ()))
    if len(shape) != rank:
        raise CheckpointError(
            f"not a Latent-CLIP: {name!r} has shape {list(shape)}; expected {rank} dimensions"
        )
    return shape


def _count_layers(weights: Mapping[str, Any], prefix: str) -> int:
    layers = {name[len(prefix) :].split(".", 1)[0] for name in weights if name.startswith(prefix)}
    if not layers:
        raise CheckpointError(f"not a Latent-CLIP: no weight begins with {prefix!r}")
    return len(layers)
