"""What the pack says from within: the defaults of its schemas and of its functions, and its words."""

from __future__ import annotations

import importlib
import inspect
import sys

import torch

import nodes

from .anything import ANY

MISSING = "none"


def _defaults(node) -> dict[str, list[str]]:
    """Optional input -> what its schema says and what `execute` takes where an API graph has none of it."""
    signature = inspect.signature(node.execute).parameters
    lists = node.GET_SCHEMA().is_input_list
    found = {}
    for name, (_, options) in node.INPUT_TYPES().get("optional", {}).items():
        if "default" not in options or options.get("forceInput"):
            continue  # a socket: where nothing is wired there is nothing
        taken = signature[name].default if name in signature else MISSING
        found[name] = [repr(options["default"]), repr(taken[0] if lists else taken)]
    return found


class Defaults:
    """Of every node of the pack."""

    RETURN_TYPES = (ANY,)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        every = nodes.NODE_CLASS_MAPPINGS.items()
        return ({name: _defaults(node) for name, node in every if name.startswith("LatentCLIP_")},)


class SelectDoubts:
    """What Select Best Latents says below its picture of rewards that it chose by."""

    RETURN_TYPES = (ANY,)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        widgets = {"rewards": ("STRING",), "k": ("INT",), "keep_by": ("STRING",), "variety": ("FLOAT",)}
        return {"required": {**widgets, "kept": ("INT",)}}

    def run(self, rewards, k, keep_by, variety, kept):
        select = sys.modules[nodes.NODE_CLASS_MAPPINGS["LatentCLIP_Select"].__module__]
        values = torch.tensor([float(part) for part in rewards.split()])
        return (select.doubts(values, k, keep_by, variety, kept),)


class Replace:
    """Registers, as a release would, that Score stands for a made-up node; whether the host takes such."""

    RETURN_TYPES = (ANY,)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"old": ("STRING",)}}

    async def run(self, old):
        pack = sys.modules[nodes.NODE_CLASS_MAPPINGS["LatentCLIP_Score"].__module__].__package__
        replacements = importlib.import_module(f"{pack}.host.replacements")
        replacement = replacements.Replacement(
            new="LatentCLIP_Score",
            old=old,
            widgets=("prompt", "scale"),
            inputs=(("latent_clip", "model"), ("latent", "latents")),
            values=(("text", "a red circle"),),
            outputs=((1, 0), (0, 1)),
        )
        return (await replacements.register([replacement]),)


class WiredChecks:
    """What each node's own checks say of inputs that are all wired: the host hands None to them.

    By node: a text for each time that its fingerprint was asked, and what its validation said.
    """

    RETURN_TYPES = (ANY,)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        found = {}
        for name, node in nodes.NODE_CLASS_MAPPINGS.items():
            if not name.startswith("LatentCLIP_"):
                continue
            groups = node.INPUT_TYPES()
            inputs = dict.fromkeys([*groups.get("required", {}), *groups.get("optional", {})])
            found[name] = [
                [repr(node.fingerprint_inputs(**inputs)) for _ in range(2)]
                if _own(node, "fingerprint_inputs")
                else [],
                repr(node.validate_inputs(**_named(node.validate_inputs, inputs)))
                if _own(node, "validate_inputs")
                else "True",
            ]
        return (found,)


def _own(node, name: str) -> bool:
    """Whether the node, and not a class of the host, has this method."""
    return any(name in vars(each) for each in node.__mro__ if each.__module__ == node.__module__)


def _named(check, inputs: dict) -> dict:
    """The host hands over those inputs that a validation names, or all where it takes any."""
    parameters = inspect.signature(check).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return inputs
    return {name: value for name, value in inputs.items() if name in parameters}


NODES = {
    "Probe_Defaults": Defaults,
    "Probe_Replace": Replace,
    "Probe_SelectDoubts": SelectDoubts,
    "Probe_WiredChecks": WiredChecks,
}
