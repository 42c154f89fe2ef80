"""What a model encoded lately: nodes that ask one Latent-CLIP about the same batch have it encoded once.

Off unless a host switches it on (`LatentCLIP.memory`): it is for weights that stay as they are while a graph
runs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from hashlib import blake2b

import torch
from torch import Tensor, nn

from .glance import glance

MOST = 1024  # embeddings of latents that are kept, of some kilobytes each
MOST_TEXTS = 4096  # and of texts or labels: long lists of labels must not drive each other out


class EmbeddingMemory:
    """Embeddings by what was encoded, for one model, least recently used first.

    Latents are known by their bytes: a changed tensor, or another one at its old address, is never taken for
    what it was, and a part of a batch is known too. Weights are known by a glance at each of them: where
    they change, however that is done, all is forgotten. Nothing is kept or looked up while gradients are
    recorded, nor for latents on a GPU, whose bytes would have to be fetched.
    """

    def __init__(self, most: int = MOST, most_texts: int = MOST_TEXTS) -> None:
        self._latents, self._texts = _Store(most), _Store(most_texts)
        self._weights = b""

    def of_latents(
        self, model: nn.Module, about: Hashable, z: Tensor, encode: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Embeddings [B, D] of latents [B, ...]; `encode` is asked for the whole batch or not at all.

        about: what else the answer depends on.
        """
        if z.device.type != "cpu":
            return encode(z)
        kind = (about, z.dtype, tuple(z.shape[1:]))
        keys: list[Hashable] = [(kind, _digest(item)) for item in z]
        return self._answer(model, self._latents, keys, lambda: encode(z))

    def of_texts(
        self, model: nn.Module, about: Hashable, texts: Sequence[str], encode: Callable[[], Tensor]
    ) -> Tensor:
        """Embeddings [T, D] of texts. about: what else the answer depends on."""
        return self._answer(model, self._texts, [(about, text) for text in texts], encode)

    def _answer(
        self, model: nn.Module, store: _Store, keys: list[Hashable], encode: Callable[[], Tensor]
    ) -> Tensor:
        if torch.is_grad_enabled() or len(keys) > store.most:
            return encode()
        if (weights := glance(model)) != self._weights:
            self._weights = weights
            self._latents.known.clear()
            self._texts.known.clear()
        return store.answer(keys, encode)


class _Store:
    """Embeddings by key, the one used longest ago first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.known: OrderedDict[Hashable, Tensor] = OrderedDict()

    def answer(self, keys: list[Hashable], encode: Callable[[], Tensor]) -> Tensor:
        if all(key in self.known for key in keys):
            for key in keys:
                self.known.move_to_end(key)
            return torch.stack([self.known[key] for key in keys])
        found = encode()
        for key, embedding in zip(keys, found, strict=True):
            self.known[key] = embedding.clone()
            self.known.move_to_end(key)
        while len(self.known) > self.most:
            self.known.popitem(last=False)
        return found


def _digest(item: Tensor) -> bytes:
    """Of an item's numbers, whatever their type and strides."""
    numbers = item.detach().contiguous().reshape(-1).view(torch.uint8)
    return blake2b(numbers.numpy().data, digest_size=16).digest()
