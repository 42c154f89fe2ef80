"""A pipeline's call: what it takes, asked before anything is made, and what it gives."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

ALWAYS = ("prompt", "generator", "output_type")
"""Arguments without which no latents of a text are made."""


class NoLatents(ValueError):
    """A pipeline that gives something else, whatever it is asked."""


def check_call(pipe: Any, wanted: Iterable[str]) -> None:
    """Refuse a pipeline whose call does not take all of these arguments, and `ALWAYS`. Raises ValueError."""
    taken = inspect.signature(inspect.unwrap(type(pipe).__call__)).parameters
    if any(each.kind is each.VAR_KEYWORD for each in taken.values()):
        return
    missing = [name for name in dict.fromkeys((*ALWAYS, *wanted)) if name not in taken]
    if missing:
        expected = "one that makes pictures of texts" if "prompt" in missing else "another, or do without it"
        raise ValueError(
            f"the pipeline {type(pipe).__name__} takes no {missing[0]}, but "
            f"{', '.join(list(taken)[1:]):.200}; expected {expected}"
        )


def steps_of(pipe: Any, call: Mapping[str, Any]) -> int:
    """How many steps a call takes: as it says, or as many as are usual with that pipeline."""
    usual = inspect.signature(inspect.unwrap(type(pipe).__call__)).parameters.get("num_inference_steps")
    return call.get("num_inference_steps") or (usual.default if usual is not None else 1)


def latents_from(pipe: Any, ask: Callable[..., Any], **given: Any) -> Any:
    """What a pipeline gives when it is asked for latents, in its own form. NoLatents where it is nothing."""
    found = ask(**given, output_type="latent")
    if not hasattr(found, "images"):
        names = ", ".join(found) if isinstance(found, dict) else type(found).__name__
        raise NoLatents(
            f"the pipeline {type(pipe).__name__} gave {names:.80}, and no images; expected one that makes "
            "pictures"
        )
    return found.images
