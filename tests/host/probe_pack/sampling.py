"""What the tests of sampling need to see or to provoke: noise on wires, broken weights, interrupts, full
memory."""

from __future__ import annotations

from pathlib import Path

import comfy.model_management
import folder_paths
import numpy
import torch


class GivenNoise:
    """A NOISE from an .npy in the input folder."""

    RETURN_TYPES = ("NOISE",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"name": ("STRING", {"default": "noise"}), "seed": ("INT", {"default": 0})}}

    def run(self, name, seed):
        self.noise = torch.from_numpy(numpy.load(Path(folder_paths.get_input_directory()) / f"{name}.npy"))
        self.seed = seed
        return (self,)

    def generate_noise(self, latent):
        return self.noise


class DumpNoise:
    """What a NOISE gives for a LATENT, as .npy in the output folder."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"noise": ("NOISE",), "latent": ("LATENT",), "name": ("STRING", {"default": "noise"})}
        }

    def run(self, noise, latent, name):
        values = noise.generate_noise(latent)
        numpy.save(Path(folder_paths.get_output_directory()) / f"{name}.npy", values.cpu().numpy())
        return {"ui": {"values": [str(list(values.shape))]}}


class RunsOutOfMemory:
    """A MODEL that runs out of memory when more than one item is rendered with gradients."""

    RETURN_TYPES = ("MODEL",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def run(self, model):
        def guarded(apply_model, args):
            if args["input"].requires_grad and args["input"].shape[0] > 1:
                raise torch.cuda.OutOfMemoryError("the probe pretends that this batch does not fit")
            return apply_model(args["input"], args["timestep"], **args["c"])

        patched = model.clone()
        patched.set_model_unet_function_wrapper(guarded)
        return (patched,)


class BrokenWeights:
    """Names of weights that claim to be ordinary tensors but have no version counter."""

    RETURN_TYPES = ("STRING",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "after": ("LATENT",)}}

    def run(self, model, after):
        broken = []
        for name, tensor in [*model.model.named_parameters(), *model.model.named_buffers()]:
            try:
                _ = tensor.is_inference() or tensor._version
            except RuntimeError:
                broken.append(name)
        return (", ".join(broken),)


class Interrupt:
    """A MODEL that asks the host to interrupt at its n-th call, as the cancel button does."""

    RETURN_TYPES = ("MODEL",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "call": ("INT", {"default": 3})}}

    def run(self, model, call):
        calls = []

        def counted(apply_model, args):
            calls.append(None)
            if len(calls) == call:
                comfy.model_management.interrupt_current_processing()
            return apply_model(args["input"], args["timestep"], **args["c"])

        patched = model.clone()
        patched.set_model_unet_function_wrapper(counted)
        return (patched,)


NODES = {
    "Probe_GivenNoise": GivenNoise,
    "Probe_DumpNoise": DumpNoise,
    "Probe_RunsOutOfMemory": RunsOutOfMemory,
    "Probe_BrokenWeights": BrokenWeights,
    "Probe_Interrupt": Interrupt,
}
