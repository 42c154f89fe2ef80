"""What a node looked like when its workflows were saved, and which changes they survive.

A saved workflow knows widgets by their place and outputs by their number: what is inserted, moved, renamed or
removed gives it other values and wires. Only at the end something may come.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

OF_THE_HOST = {"file", "sampler_name", "scheduler"}
"""Choices that differ by the host and by what is installed."""
HOW = (
    "Put it back, or append at the end (an optional input). If it must be: give the node a new id, and add a "
    "row to REPLACED in nodes/host/replacements.py that says how saved workflows become the new node."
)

Schema = dict[str, Any]


def schema_of(info: Schema) -> Schema:
    """A node's row in /object_info as the snapshot keeps it; the same for every host."""
    inputs = [
        _input_of(name, spec, group == "optional")
        for group in ("required", "optional")
        for name, spec in info["input"].get(group, {}).items()
    ]
    outputs = [list(pair) for pair in zip(info["output_name"], info["output"], strict=True)]
    return {"inputs": inputs, "outputs": outputs}


def _input_of(name: str, spec: Sequence[Any], optional: bool) -> Schema:
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    choices = kind if isinstance(kind, list) else options.get("options")
    found = {"id": name, "type": "COMBO" if isinstance(kind, list) else kind, "optional": optional}
    if name != "file" and "default" in options:
        found["default"] = options["default"]
    if choices is not None and name not in OF_THE_HOST:
        found["options"] = list(choices)
    return found


def broken(before: dict[str, Schema], now: dict[str, Schema], replaced: Sequence[str] = ()) -> list[str]:
    """What saved workflows do not survive, in words. replaced: ids that the host is told to replace."""
    found = []
    for node, old in before.items():
        if node in now:
            found += [f"{node}: {text}" for text in _broken(old, now[node])]
        elif node not in replaced:
            found.append(f"{node} is no more")
    return found


def _broken(old: Schema, new: Schema) -> list[str]:
    found = []
    for what, key in (("inputs", "id"), ("outputs", 0)):
        names, ours = ([each[key] for each in side[what]] for side in (old, new))
        if ours[: len(names)] != names:
            found.append(f"its {what} were {', '.join(names)} and are now {', '.join(ours)}")
    by_name = {each["id"]: each for each in new["inputs"]}
    for each in old["inputs"]:
        if (other := by_name.get(each["id"])) is not None:
            found += _input_broken(each, other)
    types, ours = ([output[1] for output in side["outputs"]] for side in (old, new))
    if ours[: len(types)] != types:
        found.append(f"its outputs were of types {', '.join(types)} and are now of {', '.join(ours)}")
    return found


def _input_broken(old: Schema, new: Schema) -> list[str]:
    found, name = [], old["id"]
    if set(old["type"].split(",")) - set(new["type"].split(",")):
        found.append(f"{name} took {old['type']} and takes {new['type']}")
    if old["optional"] and not new["optional"]:
        found.append(f"{name} was optional")
    if lost := [each for each in old.get("options", ()) if each not in new.get("options", [each])]:
        found.append(f"{name} offers no {', '.join(map(str, lost))} any more")
    return found
