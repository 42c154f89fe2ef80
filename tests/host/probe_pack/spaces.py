"""What the tests of latent spaces and adapters need: the host's formats, pictures, a VAE without a name."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

import comfy.latent_formats
import comfy.sample
import comfy.sd
import folder_paths
import numpy
import torch

import nodes


class LatentFormats:
    """Every class of latents that the host has, as it describes itself: one list of dictionaries."""

    RETURN_TYPES = ("LIST",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        rows = []
        for name, kind in vars(comfy.latent_formats).items():
            if not inspect.isclass(kind) or name == "LatentFormat":
                continue
            made = kind()
            rows.append(
                {
                    "name": name,
                    "channels": made.latent_channels,
                    "scale": float(made.scale_factor),
                    "shift": float(getattr(made, "shift_factor", 0.0)),
                    "per_channel": hasattr(made, "latents_mean"),
                    "factor": getattr(made, "spacial_downscale_ratio", None),
                    "scaled": in_and_out(made),
                }
            )
        return (rows,)


class EmptyInForm:
    """Shapes of an empty latent with both ratios, for a model of videos: as we hand it on, and the host's."""

    RETURN_TYPES = ("LIST",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def get_model_object(self, name):
        return comfy.latent_formats.Wan21()

    def run(self):
        pack = sys.modules[nodes.NODE_CLASS_MAPPINGS["LatentCLIP_Score"].__module__].__package__
        ours = importlib.import_module(f"{pack}.host.ksampler")
        latents = importlib.import_module(f"{pack}.latents")
        ratios = {"downscale_ratio_spacial": 16, "downscale_ratio_temporal": 8}
        latent = {"samples": torch.zeros(1, 4, 1, 4, 6), **ratios}
        fix = comfy.sample.fix_empty_latent_channels
        taken = [name for name in inspect.signature(fix).parameters if name.startswith("downscale")]
        stock = fix(self, latent["samples"], **{name: latent[name] for name in taken})
        kept = sorted(latents.made_from(latent, latent["samples"]))
        return ([list(ours.with_channels(self, latent).shape), list(stock.shape), taken, kept],)


def in_and_out(made):
    """What the host makes for its samplers of one cell of raw latents, and of that scaled one: [2, C].

    Every channel has another number. None for a format that is not one number per channel.
    """
    frames = [1] * (made.latent_dimensions - 2)
    raw = torch.linspace(-3.0, 5.0, made.latent_channels).reshape(1, -1, *frames, 1, 1)
    try:
        found = [made.process_in(raw), made.process_out(raw)]
    except (AttributeError, RuntimeError, IndexError):  # some need more than latents
        return None
    return [each.flatten().tolist() for each in found]


class ReadImage:
    """An IMAGE from an .npz in the input folder."""

    RETURN_TYPES = ("IMAGE",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"name": ("STRING", {"default": "image"})}}

    def run(self, name):
        with numpy.load(Path(folder_paths.get_input_directory()) / f"{name}.npz") as arrays:
            return (torch.from_numpy(arrays["samples"]),)


class StrangeVAE:
    """A VAE object of the host's own class, as it comes without weights."""

    RETURN_TYPES = ("VAE",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"channels": ("INT", {"default": 4})}}

    def run(self, channels):
        vae = comfy.sd.VAE(sd={})
        vae.latent_channels = channels
        return (vae,)


class LoadedVAE:
    """A VAE whose weights were made while a node ran, in inference mode, as those of Load VAE are."""

    RETURN_TYPES = ("VAE",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"vae": ("VAE",)}}

    def run(self, vae):
        for module in vae.first_stage_model.modules():
            for name, weight in module._parameters.items():
                if weight is not None:
                    module._parameters[name] = torch.nn.Parameter(
                        weight.detach().clone(), requires_grad=False
                    )
        return (vae,)


NODES = {
    "Probe_EmptyInForm": EmptyInForm,
    "Probe_LatentFormats": LatentFormats,
    "Probe_Image": ReadImage,
    "Probe_StrangeVAE": StrangeVAE,
    "Probe_LoadedVAE": LoadedVAE,
}
