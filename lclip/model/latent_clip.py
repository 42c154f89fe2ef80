"""Latent-CLIP: a CLIP whose image tower reads VAE latents (arXiv 2503.08455)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..latents.checks import check_readable
from ..latents.items import item_by_item
from ..latents.resampling import stitched, windows
from ..latents.size_rules import (
    DEFAULT_SIZE_RULE,
    READING,
    SizeRule,
    check_size_rule,
    rule_in_force,
    size_rule_named,
)
from .config import LatentCLIPConfig
from .memory import EmbeddingMemory
from .passes import (
    MAP_BYTES,
    FreeBytes,
    float32_bytes,
    gradient_bytes,
    in_passes,
    in_passes_with_gradient,
    pass_bytes,
)
from .text_doubts import unknown_words_doubts
from .tokenizer import Tokenizer
from .tokenizers import tokenizer_for
from .transformer import Transformer, initialise_block
from .vision import VisionTower

logger = logging.getLogger("latent-clip")

TEXT_CHUNK = 256  # prompts per pass of the text tower: bounds its memory for long label lists


class LatentCLIP(nn.Module):
    """Two towers that map raw VAE latents and texts to one sphere (arXiv 2503.08455).

    operations: the namespace that Linear, Conv2d, LayerNorm and Embedding are taken from. A host passes its
        own to manage the weights; it then says through `compute_device` and `compute_dtype` where the maths
        runs (None: where the weights are and as they are stored).
    tokenizer: made on first use from `config.tokenizer` where it is None.
    Freshly made weights are random and trainable; nothing inside detaches, so both towers can be trained.
    """

    compute_device: torch.device | None = None
    compute_dtype: torch.dtype | None = None
    free_bytes: FreeBytes | None = None  # of a host's memory: large batches take no more than half of it
    memory: EmbeddingMemory | None = None  # of a host: what was encoded lately is not encoded again
    size_rule: str
    """How it reads latents of another size than its own, by name; chosen once, when it is loaded."""

    def __init__(
        self,
        config: LatentCLIPConfig,
        operations: Any = nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        super().__init__()
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.config = config
        self.size_rule = rule_in_force(DEFAULT_SIZE_RULE, config)
        self._tokenizer = tokenizer
        self.visual = VisionTower(config, operations, **where)
        self.token_embedding = _token_embedding(config, operations, where)
        self.positional_embedding = nn.Parameter(
            torch.empty(config.context_length, config.text_width, **where)
        )
        self.transformer = Transformer(
            config.text_width, config.text_layers, config.text_heads, operations, config.activation, **where
        )
        self.ln_final = operations.LayerNorm(config.text_width, **where)
        self.text_projection = nn.Parameter(torch.empty(config.text_width, config.embed_dim, **where))
        # Checkpoints call the logarithm `logit_scale`; here that name is the scale itself.
        self.log_logit_scale = nn.Parameter(torch.empty((), **where))
        if operations is nn and self.positional_embedding.device.type != "meta":
            initialise(self)  # a host's layers are filled from a checkpoint, so this would be wasted on them

    @property
    def logit_scale(self) -> float:
        """What a cosine is multiplied by before a softmax: exp of the stored logarithm."""
        return float(self.log_logit_scale.detach().float().exp())

    @property
    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            self._tokenizer = tokenizer_for(self.config)
        return self._tokenizer

    def tokenizer_metadata(self) -> dict:
        """What a checkpoint stores of the tokenizer."""
        if self._tokenizer is None and self.config.tokenizer == "clip-bpe":
            return {"kind": "clip-bpe"}  # without looking for the vocabulary
        return self.tokenizer.to_metadata()

    def vocabulary_digest(self) -> str:
        """What a fingerprint takes in of the tokenizer; empty for CLIP's own vocabulary."""
        if self._tokenizer is None and self.config.tokenizer == "clip-bpe":
            return ""  # without looking for it
        return self.tokenizer.digest()

    def encode_latents(self, z: Tensor, size_rule: str | SizeRule | None = None) -> Tensor:
        """Embed raw VAE latents of any size; differentiable in z.

        z: [B, C, H, W] or one frame [B, C, 1, H, W], as they are on a LATENT wire: not scaled for sampling,
        and clean. -> [B, D], each of length 1, at least float32; NaN for an item that is not finite.
        size_rule: how another size than the native one is brought to the model, by name or as a function
        (see `lclip.latents.size_rules`); None is the model's own. Raises ValueError for a wrong shape, or
        where no item is finite.
        """
        rule = size_rule_named(size_rule or self.size_rule)
        z = check_readable(z, self.config)

        def encode(z: Tensor) -> Tensor:
            return item_by_item(lambda shown: self._embed(shown, rule), z)

        if self.memory is None:
            return encode(z)
        about = (size_rule or self.size_rule, self._device(), self._dtype())
        return self.memory.of_latents(self, about, z, encode)

    def _embed(self, z: Tensor, rule: SizeRule) -> Tensor:
        views = rule(self._input(z), self.config)  # [B, V, C, h, w]
        embed = partial(self.visual, dtype=self._dtype())
        features = self._normalised(self._in_passes(embed, views.flatten(0, 1)))
        if views.shape[1] == 1:
            return features
        return F.normalize(features.unflatten(0, views.shape[:2]).mean(1), dim=-1)

    def patch_embeddings(
        self, z: Tensor, method: str = "contributions", size_rule: str | None = None
    ) -> Tensor:
        """Bring each patch of the latents to the shared space, for heatmaps.

        z: as for `encode_latents`. size_rule: by name; None is the model's own. A patch that several views
        hold is the mean of theirs. -> [B, h, w, D] over the whole picture, at least float32; NaN for an item
        that is not finite. method: "contributions" gives what each patch adds to the embedding of its view
        (arXiv 2310.05916): its cosine with a text is a share of the item's. "tokens" gives the finished patch
        tokens, each of length 1, which tell much less of their own place.
        """
        encoders = {"contributions": self.visual.patch_contributions, "tokens": self.visual.patch_tokens}
        if method not in encoders:
            raise ValueError(f"heatmap method is {method!r}; expected {' or '.join(map(repr, encoders))}")
        bring = READING[check_size_rule(size_rule or self.size_rule)]
        z = check_readable(z, self.config)
        return item_by_item(
            lambda shown: self._patches(*bring(self._input(shown), self.config), encoders[method]), z
        )

    def _patches(self, whole: Tensor, side: int | None, encoder: Callable[..., Tensor]) -> Tensor:
        """Of latents brought to [B, C, h, w], seen through windows of that side, or at once."""
        views = whole[:, None] if side is None else windows(whole, side)  # [B, V, C, h, w]
        patches = self._in_passes(partial(encoder, dtype=self._dtype()), views.flatten(0, 1))
        patches = patches.to(torch.promote_types(patches.dtype, torch.float32)).unflatten(0, views.shape[:2])
        height, width = whole.shape[-2:]
        return stitched(patches, height, width, views.shape[-1], self.config.patch_size)

    def encode_text(self, texts: str | Sequence[str]) -> Tensor:
        """Embed texts as typed: "(red:1.2)" is seven signs, not a weight. -> [T, D], each of length 1.

        A text that is longer than the context is cut, and a word that a closed vocabulary lacks counts as
        nothing in particular; warnings say so, and `text_doubts` tells beforehand.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise ValueError("no text was given; expected at least one")
        for doubt in unknown_words_doubts(self.tokenizer, texts):
            logger.warning("%s", doubt)

        def encode() -> Tensor:
            ids = self.tokenizer.encode(texts)
            return torch.cat([self.encode_tokens(part) for part in ids.split(TEXT_CHUNK)])

        return self.remembered(None, texts, encode)

    def remembered(self, about: Hashable, texts: Sequence[str], encode: Callable[[], Tensor]) -> Tensor:
        """What `encode` gives for these texts, [T, D], from memory where a host keeps one and it is there.

        about: what else the answer depends on, beside the model.
        """
        if self.memory is None:
            return encode()
        about = (about, self.vocabulary_digest(), self._device(), self._dtype())
        return self.memory.of_texts(self, about, texts, encode)

    def encode_tokens(self, ids: Tensor) -> Tensor:
        """Embed token ids; differentiable in the parameters. ids: [T, L], zero-padded -> [T, D]."""
        ids = ids.to(self._device())
        end = ids.argmax(dim=-1)  # the end-of-text token has the highest id
        ids = ids[:, : int(end.max()) + 1]  # attention is causal: what follows the end cannot change it
        x = self.token_embedding(ids).to(self._dtype())
        x = x + self.positional_embedding[: ids.shape[1]].to(x)
        x = self.ln_final(self.transformer(x, causal=True))
        x = x[torch.arange(x.shape[0], device=x.device), end]  # [T, width]
        return self._normalised(x @ self.text_projection.to(x))

    def _in_passes(self, run: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
        """The image tower's work on [B, C, h, w]; training keeps every pass anyway, so it gets one."""
        trained = any(parameter.requires_grad for parameter in self.parameters())
        if torch.is_grad_enabled() and trained:
            return run(z)
        tokens = 1 + z.shape[-2] * z.shape[-1] // self.config.patch_size**2
        if torch.is_grad_enabled() and z.requires_grad:
            return in_passes_with_gradient(run, z, self._gradient_bytes(tokens), self.free_bytes)
        return in_passes(run, z, pass_bytes(tokens, self.config.vision_width), self.free_bytes)

    def _gradient_bytes(self, tokens: int) -> int:
        return gradient_bytes(tokens, self.config.vision_width, self.config.vision_layers)

    def gradient_memory(self, height: int, width: int, items: int = 1) -> int:
        """Bytes that a gradient takes on the device, about, for latents of that size in one pass.

        What the pass leaves, for all views that the model's size rule makes of an item, what a map to the
        model's size leaves, and the image tower's weights in float32 where they are kept smaller.
        """
        views, rows, columns = self._views(height, width)
        tokens = views * (1 + rows * columns // self.config.patch_size**2)
        item = self._gradient_bytes(tokens) + MAP_BYTES * height * width
        return items * item + float32_bytes(self.visual)

    def _views(self, height: int, width: int) -> tuple[int, int, int]:
        """How many views of an item its size rule makes, and their size."""
        empty = torch.zeros(1, self.config.channels, height, width, device=self._device())
        with torch.no_grad():
            views = size_rule_named(self.size_rule)(empty, self.config)
        return views.shape[1], views.shape[-2], views.shape[-1]

    def _input(self, z: Tensor) -> Tensor:
        # Half precision is for what has passed a norm: its largest number is 6e4, or it rounds to 3 digits.
        return z.to(self._device(), torch.promote_types(self._dtype(), torch.float32))

    def _device(self) -> torch.device:
        return self.compute_device or self.positional_embedding.device

    def _dtype(self) -> torch.dtype:
        return self.compute_dtype or self.positional_embedding.dtype

    @staticmethod
    def _normalised(x: Tensor) -> Tensor:
        # A half-precision norm would be off by 1e-3: normalise in float32 or better.
        return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *rest: Any) -> None:
        if f"{prefix}logit_scale" in state_dict:
            state_dict[f"{prefix}log_logit_scale"] = state_dict.pop(f"{prefix}logit_scale")
        super()._load_from_state_dict(state_dict, prefix, *rest)


def stored_name(name: str) -> str:
    """A parameter's name in checkpoints; the module's own names differ in two places, and both load."""
    return name.replace(".attn.in_proj.", ".attn.in_proj_").replace("log_logit_scale", "logit_scale")


def _token_embedding(config: LatentCLIPConfig, operations: Any, where: dict[str, Any]) -> nn.Embedding:
    size = config.vocab_size, config.text_width
    if operations is nn and where["device"] is not None and torch.device(where["device"]).type == "meta":
        # To draw numbers that are nowhere, torch imports its compiler: 2 s and 100 MB.
        return nn.Embedding.from_pretrained(torch.empty(size, **where), freeze=False)
    return operations.Embedding(*size, **where)


@torch.no_grad()
def initialise(model: LatentCLIP) -> None:
    """CLIP's initialisation (arXiv 2103.00020, section 2.5): residual branches shrink with depth."""
    config = model.config
    model.log_logit_scale.fill_(2.6593)  # log(1 / 0.07)
    nn.init.normal_(model.token_embedding.weight, std=0.02)
    nn.init.normal_(model.positional_embedding, std=0.01)
    nn.init.normal_(model.text_projection, std=config.text_width**-0.5)
    for parameter in (model.visual.class_embedding, model.visual.positional_embedding, model.visual.proj):
        nn.init.normal_(parameter, std=config.vision_width**-0.5)
    for transformer in (model.visual.transformer, model.transformer):
        for block in transformer.resblocks:
            initialise_block(block, len(transformer.resblocks))
