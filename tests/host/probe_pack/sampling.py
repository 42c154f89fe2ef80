"""What the tests of sampling need to see or to provoke: noise on wires, broken weights, interrupts, full
memory."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import comfy.k_diffusion.sampling
import comfy.ldm.modules.attention
import comfy.model_management
import comfy.samplers
import folder_paths
import numpy
import torch
from comfy.patcher_extension import WrappersMP


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
    """A MODEL that runs out of memory when more than one item is rendered with gradients, or at all.

    said: by torch's own class, by that of any accelerator, by a plain error's words; or it fails otherwise.
    """

    RETURN_TYPES = ("MODEL",)
    CATEGORY = "probe"
    FUNCTION = "run"
    ERRORS = {
        "torch": (torch.cuda.OutOfMemoryError, "the probe pretends that this batch does not fit"),
        "accelerator": (getattr(torch, "AcceleratorError", RuntimeError), "CUDA error: out of memory"),
        "words": (RuntimeError, "MPS backend out of memory (the probe pretends)"),
        "otherwise": (RuntimeError, "the probe fails for another reason"),
    }

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"model": ("MODEL",)},
            "optional": {"always": ("BOOLEAN", {"default": False}), "said": (list(cls.ERRORS),)},
        }

    def run(self, model, always=False, said="torch"):
        kind, words = self.ERRORS[said]

        def guarded(apply_model, args):
            if (always or args["input"].requires_grad) and args["input"].shape[0] > 1:
                raise kind(words)
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


class ModelPatch:
    """A MODEL, patched."""

    RETURN_TYPES = ("MODEL",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def run(self, model):
        patched = model.clone()
        self.patch(patched)
        return (patched,)


class Interrupt:
    """A MODEL that asks the host to interrupt at its n-th call, as the cancel button does."""

    RETURN_TYPES = ("MODEL",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "call": ("INT", {"default": 3})}}

    def run(self, model, call):
        calls = tempfile.mkstemp()[1]  # a file: what a patch holds is put back after an interrupted run

        def counted(apply_model, args):
            with open(calls, "ab") as file:
                file.write(b".")
                number = file.tell()
            if number == call:
                comfy.model_management.interrupt_current_processing()
            return apply_model(args["input"], args["timestep"], **args["c"])

        patched = model.clone()
        patched.set_model_unet_function_wrapper(counted)
        return (patched,)


class CutAttention(ModelPatch):
    """A MODEL whose attention is overridden by a kernel without a derivative, as int8 kernels are."""

    def patch(self, model):
        def without_derivative(function, *args, **named):
            return function(*(a.detach() if isinstance(a, torch.Tensor) else a for a in args), **named)

        options = {**model.model_options.get("transformer_options", {})}
        options["optimized_attention_override"] = without_derivative
        model.model_options["transformer_options"] = options


class GlobalAttention(ModelPatch):
    """A MODEL while which samples the host's own attention is one without a derivative, as under
    --use-sage-attention."""

    def patch(self, model):
        def sampled(executor, *args, **named):
            before = comfy.ldm.modules.attention.optimized_attention

            def attention_detached(*parts, **more):
                return before(*(a.detach() if isinstance(a, torch.Tensor) else a for a in parts), **more)

            comfy.ldm.modules.attention.optimized_attention = attention_detached
            try:
                return executor(*args, **named)
            finally:
                comfy.ldm.modules.attention.optimized_attention = before

        model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "global_attention", sampled)


class StockSigmas:
    """The noise levels that the stock KSampler takes for a sampler: some leave one out."""

    RETURN_TYPES = ("SIGMAS",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "sampler_name": ("STRING", {}), "steps": ("INT", {})}}

    def run(self, model, sampler_name, steps):
        device = comfy.model_management.get_torch_device()
        stock = comfy.samplers.KSampler(model, steps, device, sampler_name, "normal", 1.0, model_options={})
        return (stock.sigmas,)


class StepCache(ModelPatch):
    """A MODEL with a step cache of the usual kind: what a step gave is given again while its input changes
    little. Where the cache is kept, and whether something lets it begin anew, differs from author to author.
    """

    KINDS = (
        "closure",
        "object",
        "options",
        "network",
        "class",
        "module",
        "predict_noise",
        "diffusion",
        "hidden",
    )
    shared: dict = {}

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "kind": ("STRING", {"default": "closure"})}}

    def run(self, model, kind):
        for place in (self.__dict__, StepCache.shared, MODULE_STATE):  # their nodes begin anew where applied
            place.clear()
        vars(model.model.diffusion_model).pop("tea", None)
        patched = model.clone()
        getattr(self, f"patch_{kind}", partial(self.patch_wrapper, kind))(patched)
        return (patched,)

    def patch_wrapper(self, kind, model):
        places = {"closure": {}, "object": self.__dict__, "class": StepCache.shared, "module": MODULE_STATE}
        if kind == "options":
            options = {**model.model_options.get("transformer_options", {}), "tea": {}}
            model.model_options["transformer_options"] = options
        hidden = held_by_a_generator() if kind == "hidden" else None

        def cached(apply_model, args):
            if kind == "options":
                place = args["c"]["transformer_options"]["tea"]
            elif kind == "network":
                place = vars(model.model.diffusion_model).setdefault("tea", {})
            else:
                place = places.get(kind) if hidden is None else next(hidden)
            return step_cached(
                place, args["input"], lambda: apply_model(args["input"], args["timestep"], **args["c"])
            )

        model.set_model_unet_function_wrapper(cached)

    def patch_predict_noise(self, model):
        place = {}

        def wrapper(executor, x, timestep, *rest, **named):
            return step_cached(place, x, lambda: executor(x, timestep, *rest, **named))

        model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "tea", wrapper)

    def patch_diffusion(self, model):
        place = {}

        def begin(executor, *args, **named):
            place.clear()
            return executor(*args, **named)

        def wrapper(executor, x, *rest, **named):
            return step_cached(place, x, lambda: executor(x, *rest, **named))

        model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "tea", begin)
        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "tea", wrapper)


MODULE_STATE: dict = {}


def sample_probe_blind(model, x, sigmas, extra_args=None, callback=None, disable=None):
    """A sampler of another pack, added after ours was loaded, that reports no step."""
    return model(x, sigmas[0] * x.new_ones(len(x)), **(extra_args or {}))


def sample_probe_blind_sde(
    model, x, sigmas, extra_args=None, callback=None, disable=None, noise_sampler=None
):
    """The same with noise of its own."""
    noise_sampler(sigmas[0], sigmas[-1])
    return sample_probe_blind(model, x, sigmas, extra_args)


for sampler in (sample_probe_blind, sample_probe_blind_sde):
    setattr(comfy.k_diffusion.sampling, sampler.__name__, sampler)
    comfy.samplers.KSampler.SAMPLERS.append(sampler.__name__.removeprefix("sample_"))


def step_cached(place, x, compute):
    """Most steps give what the last one gave: as wrong as a cache can be, where it is not fresh."""
    place["step"] = place.get("step", 0) + 1
    if place["step"] % 3 and "last" in place:
        return x - place["x"] + place["last"]
    place["x"], place["last"] = x, compute()
    return place["last"]


def held_by_a_generator():
    place = {}
    while True:
        yield place


class OneFrame(ModelPatch):
    """A MODEL for latents of one frame, [B, C, 1, h, w], as image models with a video's VAE have them."""

    def patch(self, model):
        def framed(apply_model, args):
            return apply_model(args["input"][:, :, 0], args["timestep"], **args["c"])[:, :, None]

        model.set_model_unet_function_wrapper(framed)


class TwoGPUs(ModelPatch):
    """A MODEL that says it is spread over two GPUs."""

    def patch(self, model):
        model.model_options["multigpu_clones"] = {"cuda:0": model, "cuda:1": model}


NODES = {
    "Probe_CutAttention": CutAttention,
    "Probe_GlobalAttention": GlobalAttention,
    "Probe_OneFrame": OneFrame,
    "Probe_StepCache": StepCache,
    "Probe_StockSigmas": StockSigmas,
    "Probe_TwoGPUs": TwoGPUs,
    "Probe_GivenNoise": GivenNoise,
    "Probe_DumpNoise": DumpNoise,
    "Probe_RunsOutOfMemory": RunsOutOfMemory,
    "Probe_BrokenWeights": BrokenWeights,
    "Probe_Interrupt": Interrupt,
}
