"""A small SDXL-shaped model with fixed random weights, and what goes with it: conditioning, LoRA,
ControlNet."""

from __future__ import annotations

import comfy.cldm.cldm
import comfy.controlnet
import comfy.latent_formats
import comfy.lora
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.supported_models
import torch

CONTEXT, POOLED = 64, 1280
UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1, 1],
    "channel_mult": [1, 2, 2],
    "transformer_depth": [0, 1, 1],
    "transformer_depth_output": [0, 0, 1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": CONTEXT,
    "num_heads": -1,
    "num_head_channels": 16,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": True,
    "legacy": False,
    "num_classes": "sequential",
    "adm_in_channels": POOLED + 6 * 256,
    "dtype": torch.float32,
}
NAMES = {
    "SDXL": comfy.latent_formats.SDXL,
    "SD1.5": comfy.latent_formats.SD15,
    "SD3": comfy.latent_formats.SD3,
    "FLUX": comfy.latent_formats.Flux,
}
if hasattr(comfy.latent_formats, "Flux2"):
    NAMES["FLUX.2"] = comfy.latent_formats.Flux2


class TinySDXL(comfy.supported_models.SDXL):
    unet_config = {}


@torch.no_grad()
def fill(module, seed):
    """Weights drawn by name, at the usual scale: the same on every machine, and no layer is zero."""
    for name, parameter in sorted(module.named_parameters()):
        source = torch.Generator().manual_seed(seed + sum(map(ord, name)) * 31 % 100_003)
        values = torch.randn(parameter.shape, generator=source)
        if parameter.ndim > 1:
            values = values * (0.7 / parameter[0].numel() ** 0.5)
        elif "norm" in name or ".0.weight" in name:
            values = 1 + 0.1 * values
        else:
            values = 0.05 * values
        parameter.copy_(values)
    return module.requires_grad_(False).eval()


def quantise(module):
    """Matrices and kernels in float8, as files of fp8 have them; the host casts them when they are used."""
    for parameter in module.parameters():
        if parameter.ndim > 1:
            parameter.data = parameter.data.to(torch.float8_e4m3fn)


class LoadTinySDXL:
    RETURN_TYPES = ("MODEL",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"seed": ("INT", {"default": 1}), "latents": (list(NAMES),)},
            "optional": {"weights": (["float32", "float8"],)},
        }

    def run(self, seed, latents="SDXL", weights="float32"):
        form = NAMES[latents]()
        channels = form.latent_channels
        config = TinySDXL({**UNET, "in_channels": channels, "out_channels": channels})
        config.latent_format = form
        config.set_inference_dtype(torch.float32, None)
        config.custom_operations = comfy.ops.manual_cast
        model = comfy.model_base.SDXL(config, device="cpu")
        fill(model.diffusion_model, seed)
        if weights == "float8":
            quantise(model.diffusion_model)
        device = comfy.model_management.get_torch_device()
        return (
            comfy.model_patcher.ModelPatcher(model, device, comfy.model_management.unet_offload_device()),
        )


class OnDemand(comfy.model_patcher.ModelPatcher):
    """Says of itself what a model says under dynamic VRAM, and can be made whole in the host's own way."""

    non_dynamic_delegate_model = None

    def is_dynamic(self):
        return True

    def get_non_dynamic_delegate(self):
        return comfy.model_patcher.ModelPatcherDynamic.get_non_dynamic_delegate(self)

    def set_in_use_by_current_prompt(self, *_):
        """Asked of every model that says it is on demand, at the end of a prompt, by hosts since 0.33."""


class LoadOnDemand:
    """The tiny model, as if it were loaded on demand. known: whether it tells from where it was loaded."""

    RETURN_TYPES = ("MODEL",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seed": ("INT", {"default": 1}), "known": ("BOOLEAN", {"default": True})}}

    def run(self, seed, known):
        (model,) = LoadTinySDXL().run(seed)
        model.__class__ = OnDemand
        model.cached_patcher_init = (_load_whole, (seed,)) if known else None
        return (model,)


def _load_whole(seed, disable_dynamic):
    assert disable_dynamic
    return LoadTinySDXL().run(seed)[0]


class LoadedModels:
    """How many models of SDXL's kind the host has loaded."""

    RETURN_TYPES = ("INT",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"after": ("LATENT",)}}

    def run(self, after):
        models = [loaded.model.model for loaded in comfy.model_management.current_loaded_models]
        return (sum(isinstance(model, comfy.model_base.SDXL) for model in models),)


class Conditioning:
    RETURN_TYPES = ("CONDITIONING",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"seed": ("INT", {"default": 1}), "batch": ("INT", {"default": 1})},
            "optional": {
                "tokens": ("INT", {"default": 7}),
                "width": ("INT", {"default": CONTEXT}),
                "pooled": ("INT", {"default": POOLED}),
                "broken": (["nothing", "tokens", "pooled"],),
            },
        }

    def run(self, seed, batch=1, tokens=7, width=CONTEXT, pooled=POOLED, broken="nothing"):
        source = torch.Generator().manual_seed(seed)
        made = {"tokens": torch.randn(batch, tokens, width, generator=source)}
        made["pooled"] = torch.randn(batch, pooled, generator=source)
        if broken != "nothing":
            made[broken].flatten()[3] = torch.nan
        return ([[made["tokens"], {"pooled_output": made["pooled"]}]],)


class LoRA:
    """A LoRA on every attention projection, through the host's own patching."""

    RETURN_TYPES = ("MODEL",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL",),
                "seed": ("INT", {"default": 1}),
                "strength": ("FLOAT", {"default": 1.0}),
            }
        }

    def run(self, model, seed, strength):
        keys = comfy.lora.model_lora_keys_unet(model.model, {})
        weights, source = {}, torch.Generator().manual_seed(seed)
        for key, parameter in model.model.diffusion_model.named_parameters():
            if key.endswith(("to_q.weight", "to_v.weight")):
                name = f"diffusion_model.{key.removesuffix('.weight')}"
                weights[f"{name}.lora_up.weight"] = 0.3 * torch.randn(parameter.shape[0], 4, generator=source)
                weights[f"{name}.lora_down.weight"] = 0.3 * torch.randn(
                    4, parameter.shape[1], generator=source
                )
        patched = model.clone()
        patched.add_patches(comfy.lora.load_lora(weights, keys), strength)
        return (patched,)


class TinyControlNet:
    RETURN_TYPES = ("CONTROL_NET",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seed": ("INT", {"default": 1})}}

    def run(self, seed):
        config = {
            name: value
            for name, value in UNET.items()
            if name not in ("out_channels", "transformer_depth_output")
        }
        network = comfy.cldm.cldm.ControlNet(
            **config, hint_channels=3, operations=comfy.ops.manual_cast, device="cpu"
        )
        fill(network, seed)
        device = comfy.model_management.get_torch_device()
        return (comfy.controlnet.ControlNet(network, load_device=device, manual_cast_dtype=None),)


NODES = {
    "Probe_TinySDXL": LoadTinySDXL,
    "Probe_OnDemand": LoadOnDemand,
    "Probe_LoadedModels": LoadedModels,
    "Probe_Conditioning": Conditioning,
    "Probe_LoRA": LoRA,
    "Probe_TinyControlNet": TinyControlNet,
}
