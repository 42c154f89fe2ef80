"""Settings of `evaluate` that are wrong or would be ignored are refused before anything is made."""

from __future__ import annotations

import argparse
import math

from .evaluate_generated import GENERATED, makes

FILES, PIPELINE, COMFYUI, MINI = "pictures or latents", "--pipeline", "--comfyui", "--mini"
MAKERS = (PIPELINE, COMFYUI, MINI)
READING = ("imagenet", "retrieval", "bias")
TOWARDS = tuple(task for task in GENERATED if task != "i2p")
"""Tasks whose variants go towards the prompt."""

BELONGS = {
    "vae": (READING, (FILES, MINI)),
    "latent_key": (READING, (FILES,)),
    "classes": (("imagenet",), (FILES,)),
    "templates": (("imagenet",), (FILES,)),
    "captions": (("retrieval", "bias"), (FILES,)),
    "ways": (("retrieval",), (FILES, MINI)),
    "size_rule": (READING, (FILES, MINI)),
    "workers": (READING, (FILES, MINI)),
    "engine": (READING, (FILES, MINI)),
    "workflow": (GENERATED, (COMFYUI,)),
    "timeout": (GENERATED, (COMFYUI,)),
    "variants": (GENERATED, MAKERS),
    "samples": (GENERATED, MAKERS),
    "limit": (GENERATED, MAKERS),
    "steps": (GENERATED, (PIPELINE,)),
    "guidance_scale": (GENERATED, (PIPELINE,)),
    "size": (GENERATED, (PIPELINE,)),
    "space": (GENERATED, (PIPELINE,)),
    "iterations": (GENERATED, (PIPELINE, MINI)),
    "candidates": (TOWARDS, (PIPELINE, MINI)),
    "strength": (TOWARDS, (PIPELINE, MINI)),
    "policy": (("i2p",), MAKERS),
    "classifier": (("i2p",), (PIPELINE, COMFYUI)),
    "unsafe_labels": (("i2p",), (PIPELINE, COMFYUI)),
    "concepts": (("bias",), (FILES, *MAKERS)),
    "target": (("bias",), (FILES, *MAKERS)),
    "margin": (("bias",), (FILES, *MAKERS)),
}
"""Of each setting, of which tasks it is, and with what."""
OF_MADE = ("concepts", "target", "margin")
"""Settings of files that count for pictures that are made, too."""


def remember_usual(parser: argparse.ArgumentParser) -> None:
    """Keep what each setting is where nobody gives it, so that those that are given can be told."""
    parser.set_defaults(usual={name: parser.get_default(name) for name in BELONGS})


def check_settings(options: argparse.Namespace) -> None:
    """Refuse by name what is wrong, and what would be ignored. Raises ValueError."""
    source = _source(options)
    for name, (tasks, sources) in BELONGS.items():
        if getattr(options, name) == options.usual[name]:
            continue
        shown = f"--{name.replace('_', '-')}"
        if options.task not in (*tasks, "all"):
            raise ValueError(f"{shown} is of {' and '.join(tasks)}; {options.task} does not ask for it")
        if source not in sources:
            raise ValueError(f"{shown} is for {' and '.join(sources)}, and changes nothing with {source}")
        if FILES in sources and source == MINI and name not in OF_MADE and makes(options, options.task):
            raise ValueError(
                f"{shown} is for what reads {FILES}; with {MINI}, {options.task} makes its pictures, one by "
                "one, and it changes nothing"
            )
    if options.unsafe_labels and not options.classifier:
        raise ValueError("--unsafe-labels says which labels of a classifier count; name it by --classifier")
    _check_numbers(options)


def _source(options: argparse.Namespace) -> str:
    if options.mini:
        return MINI
    if not makes(options, options.task):
        return FILES
    return COMFYUI if options.comfyui else PIPELINE


def _check_numbers(options: argparse.Namespace) -> None:
    from ..choosing.shares import check_margin
    from ..latents.spaces import space_named

    def require(name: str, good: bool, expected: str) -> None:
        value = getattr(options, name)
        if value is not None and not good:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; expected {expected}")

    strength, scale, timeout = (
        0 if value is None else value for value in (options.strength, options.guidance_scale, options.timeout)
    )
    require("candidates", (options.candidates or 2) >= 2, "2 or more; a race of one has nothing to choose")
    require("strength", 0 < strength < math.inf, "a number above 0")
    require("guidance_scale", 0 <= scale < math.inf, "a number, 0 or more")
    require("timeout", 0 < timeout < math.inf, "a number of seconds above 0")
    require("size", (options.size or 8) % 8 == 0, "a multiple of 8 pixels")
    check_margin(options.margin)
    if options.space:
        space_named(options.space)
