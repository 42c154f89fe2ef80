"""How the host holds a Latent-CLIP: whole or not at all, with what was captured of it as a part of it.

The host frees memory through a model's patcher: a little by `partially_unload`, all by `detach`; so do its
/free and its way out of memory. What is captured reads the weights where they are, so it goes before they do.
"""

from __future__ import annotations

from typing import Any

import comfy.model_patcher

from ...lclip.model import graphs

EVERYTHING = 1e32
"""What the host itself says for all the memory that there is."""


class WholePatcher(comfy.model_patcher.ModelPatcher):
    """A patcher whose model is on the device with all its weights, or with none.

    Gradients do not pass through a half, nor can it be captured; and the towers are small beside the models
    that make room. Clones share the model, and what was captured is the model's.
    """

    def __init__(
        self,
        model: Any,
        load_device: Any,
        offload_device: Any,
        size: int = 0,
        weight_inplace_update: bool = False,
    ) -> None:
        """size: what the host knows of another clone. It may count what was captured: it is counted anew."""
        super().__init__(model, load_device, offload_device, 0, weight_inplace_update)

    def model_size(self) -> int:
        """Bytes of the weights, and of what was captured: that is on the device, or nowhere."""
        return super().model_size() + graphs.kept_bytes(self.model)

    def loaded_size(self) -> int:
        return super().loaded_size() + graphs.kept_bytes(self.model)

    def partially_load(
        self, device_to: Any, extra_memory: float = 0, force_patch_weights: bool = False
    ) -> Any:
        """All weights. extra_memory: what the host can spare; below zero it wants some back."""
        if extra_memory < 0:
            graphs.drop(self.model)
        return super().partially_load(device_to, EVERYTHING, force_patch_weights)

    def partially_unload(self, device_to: Any, memory_to_free: float = 0, *_: Any, **__: Any) -> int:
        """What was captured. Where that is not enough, the host unloads the rest. -> bytes, about."""
        return graphs.drop(self.model)

    def detach(self, unpatch_all: bool = True) -> Any:
        """unpatch_all: False where only the patcher changes, and the weights stay."""
        if unpatch_all:
            graphs.drop(self.model)
        return super().detach(unpatch_all)
