"""What a model encoded lately: nodes that ask one Latent-CLIP about the same batch have it encoded once.

Off unless a host switches it on (`LatentCLIP.memory`): it is for weights that stay as they are while a graph
runs.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from hashlib import blake2b

import torch
from torch import Tensor, nn

from .captured import recording
from .glance import glance

MOST = 1024  # embeddings of latents that are kept, of some kilobytes each
PLACES = ("cpu", "cuda")  # of latents that are remembered
MOST_TEXTS = 4096  # and of texts or labels: long lists of labels must not drive each other out


class EmbeddingMemory:
    """Embeddings by what was encoded, for one model, least recently used first.

    Latents are known by their bytes: a changed tensor, or another one at its old address, is never taken for
    what it was, and a part of a batch is known too. Weights are known by a glance at each of them: where
    they change, however that is done, all is forgotten. Nothing is kept or looked up while gradients are
    recorded, nor while somebody records a CUDA graph. Of latents on a GPU a few numbers are fetched: their
    address would not do, for within inference mode no tensor tells that it was written into.
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
        if torch.is_grad_enabled() or z.device.type not in PLACES or recording(z.device):
            return encode(z)
        kind = (about, z.device, z.dtype, tuple(z.shape[1:]))
        keys: list[Hashable] = [(kind, digest) for digest in _digests(z)]
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


def _digests(z: Tensor) -> list[Hashable]:
    """Of each item's numbers, whatever their type and strides."""
    if z.device.type != "cpu":
        return _sums(z)
    return [_digest(item) for item in z]


def _digest(item: Tensor) -> bytes:
    numbers = item.detach().contiguous().reshape(-1).view(torch.uint8)
    return blake2b(numbers.numpy().data, digest_size=16).digest()


def _sums(z: Tensor) -> list[Hashable]:
    """Digests made where the latents are: sums of all bits under secret random weights, modulo 2^64.

    Multilinear hashing (Carter and Wegman, Universal classes of hash functions, 1979): two items that differ
    agree in one sum with a probability of 2^-32 at most, in all four of 2^-128.
    """
    numbers = z.detach().contiguous().reshape(len(z), -1).view(torch.uint8)
    numbers = nn.functional.pad(numbers, (0, -numbers.shape[1] % 4)).view(torch.int32).long()
    weights = _weights(numbers.shape[1], z.device)
    return [tuple(sums) for sums in torch.stack([(numbers * row).sum(1) for row in weights], 1).tolist()]


@lru_cache(maxsize=4)  # shapes of latents; 2 MB for one of SDXL at 1024 px
def _weights(count: int, device: torch.device) -> Tensor:
    """Random numbers of 64 bits [4, count], of this process alone."""
    return torch.frombuffer(bytearray(os.urandom(32 * count)), dtype=torch.int64).view(4, -1).to(device)
