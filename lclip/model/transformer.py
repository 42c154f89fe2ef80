"""The transformer of both towers: pre-norm blocks, as in CLIP (arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def quick_gelu(x: Tensor) -> Tensor:
    """The approximation of the GELU that OpenAI's CLIPs were trained with (arXiv 1606.08415, section 2)."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "quick_gelu": quick_gelu}


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
        q, k, v = self._split(x)
        x = F.scaled_dot_product_attention(q[:, :, :queries], k, v, is_causal=causal)
        return self.out_proj(x.transpose(1, 2).flatten(2))

    def contributions(self, x: Tensor) -> Tensor:
        """What each token adds to the first token's output, without the bias. x: [B, N, D] -> [B, N, D]."""
        q, k, v = self._split(x)
        weights = (q[:, :, :1] @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1)  # [B, H, 1, N]
        weighted = (weights.transpose(-1, -2) * v).transpose(1, 2).flatten(2)
        return F.linear(weighted, self.out_proj.weight.to(x))

    def _split(self, x: Tensor) -> Tensor:
        """Queries, keys and values: [3, B, H, N, D/H]."""
        return self.in_proj(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *rest: Any) -> None:
        for kind in ("weight", "bias"):
            stored = f"{prefix}in_proj_{kind}"
            if stored in state_dict:
                state_dict[f"{prefix}in_proj.{kind}"] = state_dict.pop(stored)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class MLP(nn.Module):
    """Two layers with a GELU between them."""

    def __init__(self, width: int, operations: Any, activation: str, **where: Any) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.c_fc = operations.Linear(width, 4 * width, **where)
        self.c_proj = operations.Linear(4 * width, width, **where)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.activation(self.c_fc(x)))


class Block(nn.Module):
    """A pre-norm residual block. Every addition makes a new tensor: gradients pass to the latents.

    recompute: compute what lies inside again in the backward pass instead of keeping it, which takes less
        memory and more time.
    """

    recompute = False

    def __init__(self, width: int, heads: int, operations: Any, activation: str, **where: Any) -> None:
        super().__init__()
        self.ln_1 = operations.LayerNorm(width, **where)
        self.attn = Attention(width, heads, operations, **where)
        self.ln_2 = operations.LayerNorm(width, **where)
        self.mlp = MLP(width, operations, activation, **where)

    def forward(self, x: Tensor, causal: bool = False, queries: int | None = None) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self._forward, x, causal, queries, use_reentrant=False)  # pyright: ignore
        return self._forward(x, causal, queries)

    def _forward(self, x: Tensor, causal: bool, queries: int | None) -> Tensor:
        x = x[:, :queries] + self.attn(self.ln_1(x), causal, queries)
        return x + self.mlp(self.ln_2(x))

    def contributions(self, x: Tensor) -> Tensor:
        """What each token adds to the first one through the attention. x: [B, N, D] -> [B, N, D]."""
        return self.attn.contributions(self.ln_1(x))


class Transformer(nn.Module):
    def __init__(
        self, width: int, layers: int, heads: int, operations: Any, activation: str, **where: Any
    ) -> None:
        super().__init__()
        blocks = (Block(width, heads, operations, activation, **where) for _ in range(layers))
        self.resblocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        for block in self.resblocks:
            x = block(x, causal)
        return x


def initialise_block(block: Any, layers: int) -> None:
    """CLIP's initialisation (arXiv 2103.00020, section 2.5): residual branches shrink with depth."""
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
