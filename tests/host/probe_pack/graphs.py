"""What the tests of kept CUDA graphs need: a stand-in for CUDA, and a look at what a Latent-CLIP keeps."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import comfy.model_management
import torch

from .anything import ANY

_FILE = Path(__file__).resolve().parents[2] / "lib" / "graph_stand_in.py"


def _stand_in():
    if "graph_stand_in" not in sys.modules:
        spec = importlib.util.spec_from_file_location("graph_stand_in", _FILE)
        sys.modules["graph_stand_in"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["graph_stand_in"])
    return sys.modules["graph_stand_in"]


def _graphs_of(latent_clip):
    return latent_clip.model.visual.__dict__.get("forward")


class StandInGraphs:
    """A Latent-CLIP, passed on; from here on the pack captures as if there were CUDA, or no longer."""

    RETURN_TYPES = ("LATENT_CLIP",)
    CATEGORY = "probe"
    FUNCTION = "run"
    before = None

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent_clip": ("LATENT_CLIP",), "on": ("BOOLEAN", {"default": True})}}

    @classmethod
    def IS_CHANGED(cls, latent_clip, on):
        return 0.0 if on else float("nan")

    def run(self, latent_clip, on):
        graphs = sys.modules[type(_graphs_of(latent_clip)).__module__]
        if on and StandInGraphs.before is None:
            StandInGraphs.before = graphs._CapturedPasses, graphs._has_graphs
            _stand_in().stand_in(graphs)
        if not on and StandInGraphs.before is not None:
            graphs._CapturedPasses, graphs._has_graphs = StandInGraphs.before
            StandInGraphs.before = None
        return (latent_clip,)


class KeptGraphs:
    """What a Latent-CLIP keeps, and what its patcher says of its size, once all the others have run."""

    RETURN_TYPES = (ANY,)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent_clip": ("LATENT_CLIP",), "after": (ANY, {})}}

    @classmethod
    def IS_CHANGED(cls, latent_clip, after):
        return float("nan")

    def run(self, latent_clip, after):
        if _graphs_of(latent_clip) is None:
            return (None,)
        kept, patcher = _graphs_of(latent_clip).passes.values(), latent_clip.patcher
        weights = comfy.model_management.module_size(latent_clip.model)
        return (
            {
                "kept": len(kept),
                "gradient": [passes.with_gradient for passes in kept],
                "turns": sum(passes.turn for passes in kept),
                "captured": _stand_in().StandIn.made,
                "beside weights": [patcher.model_size() - weights, patcher.loaded_size() - weights],
                "whole": not patcher.model.model_lowvram,
                "patchers": sum(
                    each.model is not None and each.model.is_clone(patcher)
                    for each in comfy.model_management.current_loaded_models
                ),
            },
        )


class HostFrees:
    """What the host does to a Latent-CLIP's patcher, by its own ways. Never from the cache."""

    RETURN_TYPES = ("LATENT_CLIP", "INT")
    CATEGORY = "probe"
    FUNCTION = "run"
    WAYS = ["a little", "all", "another clone", "more", "less", "out of memory"]

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent_clip": ("LATENT_CLIP",), "way": (cls.WAYS,), "after": (ANY, {})}}

    @classmethod
    def IS_CHANGED(cls, latent_clip, way, after):
        return float("nan")

    def run(self, latent_clip, way, after):
        patcher, freed = latent_clip.patcher, 0
        if way == "a little":
            freed = patcher.partially_unload(patcher.offload_device, 10)
        elif way == "all":
            comfy.model_management.unload_all_models()
        elif way == "another clone":
            comfy.model_management.load_models_gpu([patcher.clone()])
        elif way in ("more", "less"):
            patcher.partially_load(patcher.load_device, 0.1 if way == "more" else -10)
        else:
            raise torch.cuda.OutOfMemoryError("no memory, says the test")
        return (latent_clip, freed)


class Companions:
    """The patchers that are loaded beside a MODEL: for each different model, how many."""

    RETURN_TYPES = (ANY,)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def run(self, model):
        found = model.get_nested_additional_models()
        models = {id(each.model): each.model for each in found}
        return ([sum(each.model is one for each in found) for one in models.values()],)


class RecordLoading:
    """A value, passed on; from here on what is asked of the host's loading is recorded."""

    RETURN_TYPES = (ANY,)
    CATEGORY = "probe"
    FUNCTION = "run"
    stock = None
    seen: list = []

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY, {})}}

    @classmethod
    def IS_CHANGED(cls, value):
        return float("nan")

    def run(self, value):
        stock = RecordLoading.stock = comfy.model_management.load_models_gpu

        def recording(models, memory_required=0, **more):
            least = more.get("minimum_memory_required")
            RecordLoading.seen.append([memory_required, memory_required if least is None else least])
            return stock(models, memory_required=memory_required, **more)

        RecordLoading.seen.clear()
        comfy.model_management.load_models_gpu = recording
        return (value,)


class RecordedLoading:
    """[memory_required, minimum_memory_required] of each call since."""

    RETURN_TYPES = (ANY,)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"after": (ANY, {})}}

    def run(self, after):
        comfy.model_management.load_models_gpu = RecordLoading.stock
        return (list(RecordLoading.seen),)


class OwnClip:
    """A Latent-CLIP of its own with the same weights: what is done to it, no other test sees."""

    RETURN_TYPES = ("LATENT_CLIP",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent_clip": ("LATENT_CLIP",), "name": ("STRING", {})}}

    def run(self, latent_clip, name):
        config, state = latent_clip.model.config, latent_clip.model.state_dict()
        with torch.inference_mode(False):
            own = type(latent_clip.model)(config, tokenizer=latent_clip.model.tokenizer)
            own.load_state_dict({key: value.clone() for key, value in state.items()})
        own.size_rule = latent_clip.model.size_rule
        return (type(latent_clip)(own.eval().requires_grad_(False), name),)


class Short:
    """A Latent-CLIP, passed on; from here on memory is short: as the host says, or as the device finds."""

    RETURN_TYPES = ("LATENT_CLIP",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent_clip": ("LATENT_CLIP",), "way": (["told", "found", "partly there"],)}}

    def run(self, latent_clip, way):
        if way == "told":
            latent_clip.model.free_bytes = lambda: 0.0
        elif way == "found":

            def too_much(module, inputs):
                if len(inputs[0]) > 1 and torch.is_grad_enabled():
                    raise torch.cuda.OutOfMemoryError("no memory, says the test")

            latent_clip.model.visual.register_forward_pre_hook(too_much)
        else:
            stock = latent_clip.patcher.load

            def partly(*args, **more):
                stock(*args, **more)
                latent_clip.model.model_lowvram = True

            latent_clip.model.model_lowvram = True
            latent_clip.patcher.load = partly
        return (latent_clip,)


NODES = {
    "Probe_StandInGraphs": StandInGraphs,
    "Probe_KeptGraphs": KeptGraphs,
    "Probe_HostFrees": HostFrees,
    "Probe_Companions": Companions,
    "Probe_RecordLoading": RecordLoading,
    "Probe_RecordedLoading": RecordedLoading,
    "Probe_OwnClip": OwnClip,
    "Probe_Short": Short,
}
