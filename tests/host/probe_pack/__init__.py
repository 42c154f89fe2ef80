"""A test-only pack that runs inside the server and shows what travels on wires. Plain V1 nodes, no mock."""

from __future__ import annotations

import json
from pathlib import Path

import folder_paths
import numpy
import torch

from . import exits, full_size, graphs, previews, sampling, schemas, spaces, tiny_sdxl
from .anything import ANY


def as_json(value):
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return value if isinstance(value, (str, int, float, bool, list, dict, type(None))) else repr(value)


class Values:
    """Every item that arrives on a socket, as JSON in the history."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    INPUT_IS_LIST = True
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY, {})}}

    def run(self, value):
        return {"ui": {"values": [json.dumps([as_json(item) for item in value])]}}


class Text:
    """A text that fits every socket, so that a widget can be wired."""

    RETURN_TYPES = (ANY,)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": ""})}}

    def run(self, text):
        return (text,)


class List:
    """The entries of a JSON list, each on its own."""

    RETURN_TYPES = (ANY,)
    OUTPUT_IS_LIST = (True,)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"values": ("STRING", {"default": "[]"})}}

    def run(self, values):
        return (json.loads(values),)


class Dump:
    """A LATENT as an .npz in the output folder: tensors, lists, dictionaries by key; passed on as it is."""

    RETURN_TYPES = ("LATENT",)
    OUTPUT_NODE = True
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent": ("LATENT",), "name": ("STRING", {"default": "latent"})}}

    def run(self, latent, name):
        path = Path(folder_paths.get_output_directory()) / f"{name}.npz"
        plain = {
            key: json.dumps(value) if isinstance(value, dict) else value for key, value in latent.items()
        }
        arrays: dict = {key: numpy.asarray(value) for key, value in plain.items()}
        numpy.savez(path, **arrays)
        return {"ui": {"values": [json.dumps(sorted(latent))]}, "result": (latent,)}


class Join:
    """Two LATENTs as one, as the host's Batch Latents does, which not every host for tests can load."""

    RETURN_TYPES = ("LATENT",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"first": ("LATENT",), "second": ("LATENT",)}}

    def run(self, first, second):
        both = [first, second]
        numbers = [each.get("batch_index", list(range(len(each["samples"])))) for each in both]
        samples = torch.cat([each["samples"] for each in both])
        return ({**first, "samples": samples, "batch_index": numbers[0] + numbers[1]},)


class Read:
    """A LATENT from an .npz in the input folder: arrays become tensors, batch_index a list."""

    RETURN_TYPES = ("LATENT",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"name": ("STRING", {"default": "latent"})}}

    @classmethod
    def IS_CHANGED(cls, name):
        return (Path(folder_paths.get_input_directory()) / f"{name}.npz").stat().st_mtime_ns

    def run(self, name):
        with numpy.load(Path(folder_paths.get_input_directory()) / f"{name}.npz") as arrays:
            latent: dict = {key: torch.from_numpy(arrays[key]) for key in arrays.files if key != "type"}
            if "type" in arrays:
                latent["type"] = str(arrays["type"])
        if "batch_index" in latent:
            latent["batch_index"] = latent["batch_index"].tolist()
        return (latent,)


class DumpTensor:
    """An IMAGE or MASK as .npy in the output folder."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"tensor": (ANY, {}), "name": ("STRING", {"default": "tensor"})}}

    def run(self, tensor, name):
        numpy.save(Path(folder_paths.get_output_directory()) / f"{name}.npy", tensor.float().cpu().numpy())
        return {"ui": {"values": [json.dumps(list(tensor.shape))]}}


class CountPasses:
    """A Latent-CLIP, passed on; from here on the batches that its image tower reads are counted."""

    RETURN_TYPES = ("LATENT_CLIP",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent_clip": ("LATENT_CLIP",)}}

    def run(self, latent_clip):
        seen = latent_clip.probe_passes = []
        latent_clip.model.visual.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
        return (latent_clip,)


class Passes:
    """The sizes of the batches that were counted, once all the others have run."""

    RETURN_TYPES = (ANY,)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent_clip": ("LATENT_CLIP",), "after": (ANY, {})}}

    def run(self, latent_clip, after):
        return (list(latent_clip.probe_passes),)


class CountTexts:
    """A Latent-CLIP, passed on; from here on the texts that its text tower reads are counted."""

    RETURN_TYPES = ("LATENT_CLIP",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent_clip": ("LATENT_CLIP",)}}

    def run(self, latent_clip):
        if not hasattr(latent_clip, "probe_texts"):
            seen = latent_clip.probe_texts = []
            latent_clip.model.transformer.register_forward_hook(
                lambda _, inputs, __: seen.append(len(inputs[0]))
            )
        return (latent_clip,)


class Texts:
    """How many texts were counted, once all the others have run."""

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
        return (sum(latent_clip.probe_texts),)


NODE_CLASS_MAPPINGS = {
    "Probe_CountPasses": CountPasses,
    "Probe_CountTexts": CountTexts,
    "Probe_Texts": Texts,
    "Probe_Passes": Passes,
    "Probe_Values": Values,
    "Probe_Text": Text,
    "Probe_List": List,
    "Probe_DumpLatent": Dump,
    "Probe_JoinLatents": Join,
    "Probe_ReadLatent": Read,
    "Probe_DumpTensor": DumpTensor,
    **exits.NODES,
    **full_size.NODES,
    **graphs.NODES,
    **previews.NODES,
    **sampling.NODES,
    **schemas.NODES,
    **spaces.NODES,
    **tiny_sdxl.NODES,
}
