"""Latent-CLIP: a CLIP whose image tower reads VAE latents (arXiv 2503.08455)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import LatentCLIPConfig
from .guards import check_shape
from .sizing import SizeRule, size_rule_named
from .tokenizer import Tokenizer, tokenizer_for

TEXT_CHUNK = 256  # prompts per pass of the text tower: bounds its memory for long label lists


class Attention(nn.Module):
    """Multi-head self-attention with one joint projection to queries, keys and values.

    The projection is a Linear, so that a host can cast and offload it; checkpoints store it as
    `in_proj_weight` and `in_proj_bias`, and both names load.
    """

    def __init__(self, width: int, heads: int, operations: Any, **where: Any) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj = operations.Linear(width, 3 * width, **where)
        self.out_proj = operations.Linear(width, width, **where)

    def forward(self, x: Tensor, causal: bool = False, queries: int | None = None) -> Tensor:
        """x: [B, N, D] -> [B, N, D], or [B, queries, D] for the first tokens only."""
        q, k, v = (
            self.in_proj(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )  # each [B, H, N, D/H]
        x = F.scaled_dot_product_attention(q[:, :, :queries], k, v, is_causal=causal)
        return self.out_proj(x.transpose(1, 2).flatten(2))

    def values(self, x: Tensor) -> Tensor:
        """What each token would say if it attended to itself alone. x: [B, N, D] -> [B, N, D]."""
        return self.out_proj(self.in_proj(x).chunk(3, dim=-1)[2])

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *rest: Any) -> None:
        for kind in ("weight", "bias"):
            stored = f"{prefix}in_proj_{kind}"
            if stored in state_dict:
                state_dict[f"{prefix}in_proj.{kind}"] = state_dict.pop(stored)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class MLP(nn.Module):
    """Two layers with the exact GELU between them."""

    def __init__(self, width: int, operations: Any, **where: Any) -> None:
        super().__init__()
        self.c_fc = operations.Linear(width, 4 * width, **where)
        self.c_proj = operations.Linear(4 * width, width, **where)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x)))


class Block(nn.Module):
    """A pre-norm residual block. Every addition makes a new tensor: gradients pass to the latents."""

    def __init__(self, width: int, heads: int, operations: Any, **where: Any) -> None:
        super().__init__()
        self.ln_1 = operations.LayerNorm(width, **where)
        self.attn = Attention(width, heads, operations, **where)
        self.ln_2 = operations.LayerNorm(width, **where)
        self.mlp = MLP(width, operations, **where)

    def forward(self, x: Tensor, causal: bool = False, queries: int | None = None) -> Tensor:
        x = x[:, :queries] + self.attn(self.ln_1(x), causal, queries)
        return x + self.mlp(self.ln_2(x))

    def values(self, x: Tensor) -> Tensor:
        """The block without mixing between tokens (MaskCLIP, arXiv 2112.01071)."""
        x = x + self.attn.values(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int, operations: Any, **where: Any) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, operations, **where) for _ in range(layers))

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        for block in self.resblocks:
            x = block(x, causal)
        return x


class VisionTower(nn.Module):
    """A ViT over latent patches with a class token, as in CLIP (arXiv 2103.00020)."""

    def __init__(self, config: LatentCLIPConfig, operations: Any, **where: Any) -> None:
        super().__init__()
        width, patch = config.vision_width, config.patch_size
        self.grid = config.grid
        self.conv1 = operations.Conv2d(config.channels, width, patch, stride=patch, bias=False, **where)
        self.class_embedding = nn.Parameter(torch.empty(width, **where))
        self.positional_embedding = nn.Parameter(torch.empty(config.grid**2 + 1, width, **where))
        self.ln_pre = operations.LayerNorm(width, **where)
        self.transformer = Transformer(width, config.vision_layers, config.vision_heads, operations, **where)
        self.ln_post = operations.LayerNorm(width, **where)
        self.proj = nn.Parameter(torch.empty(width, config.embed_dim, **where))

    def forward(self, z: Tensor) -> Tensor:
        """[B, C, h, w] latents -> [B, D]: the class token, not normalised."""
        *blocks, last = self.transformer.resblocks
        x = self.embed(z)
        for block in blocks:
            x = block(x)
        # Only the class token leaves the tower: the last block need not compute the others.
        return self.project(last(x, queries=1)[:, 0])

    def patches(self, z: Tensor, mixed: bool) -> Tensor:
        """[B, C, h, w] latents -> [B, h/p, w/p, D]: the patch tokens in the shared space, not normalised.

        mixed: through the whole last block; otherwise through its value path alone.
        """
        *blocks, last = self.transformer.resblocks
        x = self.embed(z)
        for block in blocks:
            x = block(x)
        x = last(x) if mixed else last.values(x)  # pyright: ignore[reportCallIssue]
        rows, columns = (n // p for n, p in zip(z.shape[-2:], self.conv1.kernel_size, strict=True))
        return self.project(x[:, 1:]).unflatten(1, (rows, columns))

    def embed(self, z: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, 1 + tokens, width]: what enters the first block."""
        x = self.conv1(z)
        positions = self.positions(x.shape[-2], x.shape[-1]).to(x)
        x = x.flatten(2).transpose(1, 2)  # [B, tokens, width]
        first = self.class_embedding.to(x).expand(x.shape[0], 1, -1)
        return self.ln_pre(torch.cat([first, x], dim=1) + positions)

    def positions(self, rows: int, columns: int) -> Tensor:
        """The position embedding, resampled unless the token grid is the native one. [1 + tokens, width]"""
        stored = self.positional_embedding
        if rows == columns == self.grid:
            return stored
        plane = stored[1:].float().T.reshape(1, -1, self.grid, self.grid)
        plane = F.interpolate(plane, (rows, columns), mode="bicubic", align_corners=False, antialias=True)
        return torch.cat([stored[:1], plane.flatten(2)[0].T.to(stored)])

    def project(self, x: Tensor) -> Tensor:
        x = self.ln_post(x)
        return x @ self.proj.to(x)


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
        self._tokenizer = tokenizer
        self.visual = VisionTower(config, operations, **where)
        self.token_embedding = operations.Embedding(config.vocab_size, config.text_width, **where)
        self.positional_embedding = nn.Parameter(
            torch.empty(config.context_length, config.text_width, **where)
        )
        self.transformer = Transformer(
            config.text_width, config.text_layers, config.text_heads, operations, **where
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

    def encode_latents(self, z: Tensor, size_rule: str | SizeRule | None = None) -> Tensor:
        """Embed raw VAE latents of any size; differentiable in z.

        z: [B, C, H, W], as they are on a LATENT wire: not scaled for sampling, and clean. -> [B, D], each of
        length 1, at least float32. size_rule: how another size than the native one is brought to the model,
        by name or as a function (see `lclip.sizing`). Raises ValueError for a wrong shape or values that are
        not finite.
        """
        check_shape(z, self.config)
        views = size_rule_named(size_rule)(self._input(z), self.config)  # [B, V, C, h, w]
        features = self._normalised(self.visual(views.flatten(0, 1)))
        if views.shape[1] == 1:
            return features
        return F.normalize(features.unflatten(0, views.shape[:2]).mean(1), dim=-1)

    def patch_embeddings(self, z: Tensor, method: str = "values") -> Tensor:
        """Embed each patch of the latents in the shared space, for heatmaps.

        z: [B, C, H, W] raw latents, resampled to whole patches where needed. -> [B, h, w, D], each of
        length 1. method: "values" reads the last block's value path only, which keeps each token about its
        own place (MaskCLIP, arXiv 2112.01071); "tokens" reads the finished patch tokens.
        """
        if method not in ("values", "tokens"):
            raise ValueError(f"heatmap method is {method!r}; expected 'values' or 'tokens'")
        check_shape(z, self.config)
        views = size_rule_named("interpolate")(self._input(z), self.config)
        return self._normalised(self.visual.patches(views[:, 0], mixed=method == "tokens"))

    def encode_text(self, texts: str | Sequence[str]) -> Tensor:
        """Embed texts as typed: "(red:1.2)" is seven signs, not a weight. -> [T, D], each of length 1.

        A text that is longer than the context is cut, and a warning says so.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise ValueError("no text was given; expected at least one")
        ids = self.tokenizer.encode(texts)
        return torch.cat([self.encode_tokens(part) for part in ids.split(TEXT_CHUNK)])

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

    def _input(self, z: Tensor) -> Tensor:
        return z.to(self._device(), self._dtype())

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
            _initialise_block(block, len(transformer.resblocks))


def _initialise_block(block: Block | nn.Module, layers: int) -> None:
    if not isinstance(block, Block):
        raise TypeError(f"expected a Block, got {type(block).__name__}")
    width = block.attn.out_proj.in_features
    branch = (2 * layers) ** -0.5
    for linear, std in (
        (block.attn.in_proj, width**-0.5),
        (block.attn.out_proj, width**-0.5 * branch),
        (block.mlp.c_fc, (2 * width) ** -0.5),
        (block.mlp.c_proj, width**-0.5 * branch),
    ):
        nn.init.normal_(linear.weight, std=std)
        nn.init.zeros_(linear.bias)
