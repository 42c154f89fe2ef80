"""The laws of the house: which file may import which, and how large things may be."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from house import UNKNOWN, House, circles

FLOORS = (
    ("errors", "statistics", "wording", "descent"),
    ("latents",),
    ("model",),
    ("checkpoints",),
    ("scoring", "rewards", "reno", "safety", "adapters", "data", "choosing"),
    ("exploring",),
    ("training", "bulk", "diffusers"),
    ("evaluation",),
    ("mini",),
    ("lclip",),  # the front door, lclip/__init__.py
    ("commands", "benchmarks"),
    ("__main__",),
    ("nodes/draw", "nodes/latents"),
    ("nodes/host",),
    ("nodes",),  # the node files
    ("pack",),  # the root's __init__.py
)
"""Wings from the ground up. Arrows point down; between wings of one floor they go one way only."""

FLAT = {"__init__", "__main__", "descent", "errors", "scoring", "statistics", "wording"}
"""The files that stand in lclip/ itself."""

HOST = {
    *("api_server", "app", "comfy", "comfy_api_nodes", "comfy_config", "comfy_execution", "comfy_extras"),
    *("cuda_malloc", "execution", "folder_paths", "latent_preview", "main", "middleware", "node_helpers"),
    *("nodes", "protocol", "server"),
}
"""Modules of ComfyUI that nobody promises to keep. comfy_api is public."""

RESAMPLING = "lclip/latents/resampling.py"

LONGEST_FILE, MEDIAN_FUNCTION = 320, 12  # lines

Law = Callable[[House], Iterator[str]]


def arrows_point_down(house: House) -> Iterator[str]:
    for found in house.inner_imports:
        here, there = wing_of(found.source), wing_of(str(found.file))
        if None not in (floor_of(here), floor_of(there)) and floor_of(there) > floor_of(here):
            yield f"{found}: {here} stands below {there}"


def every_file_stands_on_a_floor(house: House) -> Iterator[str]:
    for name in house.texts:
        if floor_of(wing_of(name)) is None:
            yield f"{name}: its wing {wing_of(name)!r} is not in FLOORS"


def no_circle_of_files(house: House) -> Iterator[str]:
    for circle in circles(house.arrows):
        yield "files in a circle: " + ", ".join(circle)


def no_circle_of_wings(house: House) -> Iterator[str]:
    arrows: dict[str, set[str]] = {}
    for found in house.inner_imports:
        here, there = wing_of(found.source), wing_of(str(found.file))
        if here != there:
            arrows.setdefault(here, set()).add(there)
    for circle in circles(arrows):
        yield "wings in a circle: " + ", ".join(circle)


def the_library_knows_no_nodes(house: House) -> Iterator[str]:
    for found in house.imports:
        if not found.source.startswith(("nodes/", "__init__")) and found.module.split(".")[0] == "nodes":
            yield f"{found}: nodes stand on the library"


def nodes_know_no_commands(house: House) -> Iterator[str]:
    for found in house.inner_imports:
        if found.source.startswith("nodes/") and wing_of(str(found.file)) in ("commands", "benchmarks"):
            yield f"{found}: that is no part of the pack"


def nodes_reach_the_library_by_dots(house: House) -> Iterator[str]:
    """The host loads the pack under another name: an absolute import finds another copy, or none."""
    for found in house.imports:
        inside = found.source.startswith("nodes/") or found.source == "__init__.py"
        if inside and found.absolute and found.module.split(".")[0] in ("lclip", "benchmarks"):
            yield f"{found}: in a host the pack has another name, write dots"


def node_files_know_no_other(house: House) -> Iterator[str]:
    for found in house.inner_imports:
        there = str(found.file)
        if wing_of(found.source) == wing_of(there) == "nodes" and there != found.source:
            yield f"{found}: what two node files share belongs into nodes/host, nodes/draw or lclip"


def nodes_are_defined_in_node_files(house: House) -> Iterator[str]:
    for name, tree in house.trees.items():
        for node in ast.walk(tree):
            bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
            if wing_of(name) != "nodes" and any(base.split(".")[-1] == "ComfyNode" for base in bases):
                yield f"{name}:{node.lineno} defines a node; expected it in a file of its own in nodes/"


def the_host_only_in_its_folder(house: House) -> Iterator[str]:
    for found in house.imports:
        top = found.module.split(".")[0]
        if found.file is None and found.absolute and top in HOST and wing_of(found.source) != "nodes/host":
            yield f"{found}: ComfyUI's own modules only in nodes/host"
        known = wing_of(found.source) in ("nodes", "nodes/host", "pack")
        if top == "comfy_api" and not known:
            yield f"{found}: ComfyUI's public API only in nodes and nodes/host"


def the_core_knows_no_mini_world(house: House) -> Iterator[str]:
    """The front door opens it, to let it register itself, and takes nothing from it."""
    core = {wing for floor in FLOORS[: floor_of("mini")] for wing in floor}
    for found in house.imports:
        opens = wing_of(found.source) == "lclip" and found.module == "lclip.mini"
        if wing_of(found.source) in {*core, "lclip"} and found.module.startswith("lclip.mini") and not opens:
            yield f"{found}: the mini world registers itself"


def only_what_can_be_read_is_imported(house: House) -> Iterator[str]:
    for found in house.imports:
        if found.module == UNKNOWN:
            yield f"{found.source}:{found.line} imports what only a run can tell: name it, or add to BY_NAME"


def imports_stay_in_the_house(house: House) -> Iterator[str]:
    for found in house.imports:
        if not found.absolute and found.file is None and found.module != UNKNOWN:
            yield f"{found}: there is no such file"


def few_files_stand_outside_a_folder(house: House) -> Iterator[str]:
    for name in house.texts:
        top, *rest = name.split("/")
        if top == "lclip" and len(rest) == 1 and Path(name).stem not in FLAT:
            yield f"{name}: expected it in a folder of lclip/"


def files_are_short(house: House) -> Iterator[str]:
    for name, text in house.texts.items():
        if (lines := len(text.splitlines())) > LONGEST_FILE:
            yield f"{name}: {lines} lines; expected at most {LONGEST_FILE}"


def functions_are_short(house: House) -> Iterator[str]:
    for top in ("lclip", "nodes", "benchmarks"):
        lengths = [
            node.end_lineno - node.lineno + 1
            for name, tree in house.trees.items()
            for node in ast.walk(tree)
            if name.startswith(f"{top}/") and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        ]
        if lengths and (median := statistics.median(lengths)) > MEDIAN_FUNCTION:
            yield f"{top}: the median function has {median:g} lines; expected at most {MEDIAN_FUNCTION}"


def every_device_can_do_it(house: House) -> Iterator[str]:
    """Not every device has float64 (MPS, DirectML, NPUs), nor antialiased resampling."""
    for name, tree in house.trees.items():
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        for call in calls if name.startswith(("lclip/", "nodes/")) else []:
            where, method = f"{name}:{call.lineno}", ast.unparse(call.func)
            given = [*call.args, *(entry.value for entry in call.keywords)]
            wide = any(ast.unparse(each) in ("torch.float64", "torch.double") for each in given)
            moved = method.endswith((".to", ".type")) and wide
            if moved or (method.endswith(".double") and not method.endswith(".cpu().double")):
                yield f"{where} makes float64 of a tensor on any device: .cpu().double()"
            if name != RESAMPLING and any(entry.arg == "antialias" for entry in call.keywords):
                yield f"{where} resamples antialiased: that is what {RESAMPLING} does, on every device"


def wing_of(name: str) -> str:
    """The wing that a file belongs to: its folder, itself where it stands alone, "nodes" for node files."""
    top, *rest = Path(name).with_suffix("").parts
    if top == "__init__":
        return "pack"
    if top == "benchmarks":
        return top
    if top == "lclip":
        return top if rest == ["__init__"] else rest[0]
    inside = f"nodes/{rest[0]}"
    return inside if len(rest) > 1 or floor_of(inside) is not None else "nodes"


def floor_of(wing: str) -> int | None:
    return next((number for number, wings in enumerate(FLOORS) if wing in wings), None)


LAWS: tuple[Law, ...] = (
    every_file_stands_on_a_floor,
    arrows_point_down,
    no_circle_of_wings,
    no_circle_of_files,
    the_library_knows_no_nodes,
    the_core_knows_no_mini_world,
    nodes_know_no_commands,
    nodes_reach_the_library_by_dots,
    node_files_know_no_other,
    nodes_are_defined_in_node_files,
    the_host_only_in_its_folder,
    only_what_can_be_read_is_imported,
    imports_stay_in_the_house,
    few_files_stand_outside_a_folder,
    files_are_short,
    functions_are_short,
    every_device_can_do_it,
)


def offences(root: Path, laws: Iterable[Law] = LAWS) -> list[str]:
    """What breaks a law under this root."""
    house = House(root)
    return [offence for law in laws for offence in law(house)]
