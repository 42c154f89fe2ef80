"""What measurements at SDXL's full size need: a UNet file with random weights, a meter, a smaller card."""

from __future__ import annotations

import gc
import json
import time
from pathlib import Path

import comfy.ldm.modules.diffusionmodules.openaimodel
import comfy.model_management
import comfy.ops
import folder_paths
import torch
from safetensors.torch import save_file

from .anything import ANY
from .tiny_sdxl import UNET

SDXL = {
    **UNET,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10,
    "context_dim": 2048,
    "num_head_channels": 64,
    "dtype": torch.float16,
}


class WriteSDXL:
    """SDXL's UNet with random weights in half precision, as a file among the diffusion models."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"name": ("STRING", {"default": "random_sdxl.safetensors"})}}

    @torch.no_grad()
    def run(self, name):
        path = Path(folder_paths.models_dir) / "diffusion_models" / name
        device = comfy.model_management.get_torch_device()
        network = comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel(
            **SDXL, device=device, operations=comfy.ops.disable_weight_init
        )
        torch.manual_seed(0)
        for key, parameter in network.named_parameters():
            if parameter.ndim > 1:  # at this bound the variance stays as it is from layer to layer
                bound = (3.0 / parameter[0].numel()) ** 0.5
                parameter.uniform_(-bound, bound)
            else:
                parameter.fill_(0.0 if key.endswith("bias") else 1.0)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({key: tensor.contiguous() for key, tensor in network.state_dict().items()}, path)
        return {}


class Meter:
    """Seconds and peak memory since the meter before; the value goes through untouched, and never cached."""

    RETURN_TYPES = (ANY,)
    OUTPUT_NODE = True
    CATEGORY = "probe"
    FUNCTION = "run"
    last = 0.0

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY, {})}}

    @classmethod
    def IS_CHANGED(cls, value):
        return float("nan")

    def run(self, value):
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.synchronize()
        seen = {"seconds": time.perf_counter() - Meter.last}
        if on_gpu:
            seen["peak"] = torch.cuda.max_memory_allocated()
            torch.cuda.reset_peak_memory_stats()
        Meter.last = time.perf_counter()
        return {"ui": {"values": [json.dumps([seen])]}, "result": (value,)}


class Room:
    """Takes so much of the card's memory that this much is free; 0 gives it back. -> the bytes taken."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    CATEGORY = "probe"
    FUNCTION = "run"
    taken = None

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"gibibytes": ("FLOAT", {"default": 0.0})}}

    @classmethod
    def IS_CHANGED(cls, gibibytes):
        return float("nan")

    def run(self, gibibytes):
        Room.taken = None
        comfy.model_management.unload_all_models()
        gc.collect()
        torch.cuda.empty_cache()
        surplus = torch.cuda.mem_get_info()[0] - int(gibibytes * 2**30)
        if gibibytes and surplus > 0:
            Room.taken = torch.empty(surplus, dtype=torch.uint8, device="cuda")
        torch.cuda.reset_peak_memory_stats()
        taken = 0 if Room.taken is None else Room.taken.numel()
        return {"ui": {"values": [json.dumps([taken])]}}


NODES = {"Probe_WriteSDXL": WriteSDXL, "Probe_Meter": Meter, "Probe_Room": Room}
