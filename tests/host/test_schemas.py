"""Saved workflows go on working: no node's inputs and outputs change unnoticed.

`UPDATE_SCHEMAS=1 COMFYUI_PATH=... make test ARGS=tests/host/test_schemas.py` writes what is new into
schemas.json.
"""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import pytest
from schema_rules import HOW, broken, schema_of

SNAPSHOT = Path(__file__).with_name("schemas.json")


def snapshot() -> dict:
    return json.loads(SNAPSHOT.read_text("utf-8")) if SNAPSHOT.is_file() else {}


def write(nodes: dict) -> None:
    """A line per input and output: a change of one is a change of one line."""
    text = []
    for node, schema in sorted(nodes.items()):
        parts = [
            f'"{what}": [\n'
            + ",\n".join(f"   {json.dumps(each, ensure_ascii=False)}" for each in schema[what])
            + "\n  ]"
            for what in ("inputs", "outputs")
        ]
        text.append(f'"{node}": {{\n  ' + ",\n  ".join(parts) + "\n }")
    SNAPSHOT.write_text("{\n " + ",\n ".join(text) + "\n}\n", "utf-8")


@pytest.fixture(scope="module")
def nodes(host):
    ours = {name: info for name, info in host.object_info.items() if name.startswith("LatentCLIP_")}
    return {name: schema_of(info) for name, info in ours.items()}


def replaced(host) -> list[dict]:
    """What the host was told by this pack; hosts without the API are told nothing."""
    if not takes_replacements(host):
        return []
    rows = [row for rows in host.get("/node_replacements").values() for row in rows]
    return [row for row in rows if row["new_node_id"].startswith("LatentCLIP_")]


def takes_replacements(host) -> bool:
    return "class NodeReplace" in (host.checkout / "comfy_api" / "latest" / "_io.py").read_text("utf-8")


def test_saved_workflows_survive_the_nodes_of_today(host, nodes):
    before = snapshot()
    known = {row["old_node_id"] for row in replaced(host)}
    if not takes_replacements(host):  # what the newer hosts are told is looked at there
        known = set(before) - set(nodes)
    assert not (lost := broken(before, nodes, sorted(known))), "\n".join([*lost, HOW])
    if "UPDATE_SCHEMAS" in os.environ:
        write({**{name: before[name] for name in known & set(before)}, **nodes})
    differ = [name for name, schema in nodes.items() if snapshot().get(name) != schema]
    assert not differ, f"{differ} is not as in schemas.json; write it anew with UPDATE_SCHEMAS=1"


def test_a_replacement_names_what_the_old_node_had(host, nodes):
    """What was registered for nodes of earlier releases, by the snapshot's last word on them."""
    before = snapshot()
    for row in replaced(host):
        if (old := before.get(row["old_node_id"])) is None:
            continue
        new = nodes[row["new_node_id"]]
        ids = [each["id"] for each in old["inputs"]]
        assert set(row["old_widget_ids"]) <= set(ids), row["old_node_id"]
        for pair in row["input_mapping"]:
            assert pair["new_id"] in [each["id"] for each in new["inputs"]], pair
            assert pair.get("old_id", ids[0]) in ids, pair
        for pair in row["output_mapping"]:
            assert pair["new_idx"] < len(new["outputs"]) and pair["old_idx"] < len(old["outputs"]), pair


MADE_UP = {
    "A": {
        "inputs": [
            {"id": "latent", "type": "LATENT", "optional": False},
            {"id": "k", "type": "INT", "optional": False, "default": 1},
            {"id": "by", "type": "COMBO", "optional": True, "default": "k", "options": ["k", "both"]},
        ],
        "outputs": [["best", "LATENT"], ["score", "FLOAT"]],
    }
}
WIDGET = {"id": "show", "type": "BOOLEAN", "optional": True, "default": True}


def changed(change) -> dict:
    nodes = copy.deepcopy(MADE_UP)
    change(nodes["A"])
    return nodes


@pytest.mark.parametrize(
    "change",
    [
        lambda node: node["inputs"].insert(1, WIDGET),
        lambda node: node["inputs"].reverse(),
        lambda node: node["inputs"].pop(),
        lambda node: node["inputs"][1].update(id="count"),
        lambda node: node["inputs"][1].update(type="FLOAT"),
        lambda node: node["inputs"][2].update(optional=False),
        lambda node: node["inputs"][2].update(options=["k", "threshold"]),
        lambda node: node["outputs"].insert(0, ["rest", "LATENT"]),
        lambda node: node["outputs"].pop(),
        lambda node: node["outputs"][0].reverse(),
        lambda node: node["outputs"][1].__setitem__(1, "STRING"),
    ],
    ids=[
        *("inserted", "moved", "removed", "renamed", "retyped", "demanded", "lost-choice"),
        *("out-inserted", "out-removed", "out-renamed", "out-retyped"),
    ],
)
def test_what_breaks_a_saved_workflow_is_told(change):
    assert broken(MADE_UP, changed(change))


@pytest.mark.parametrize(
    "change",
    [
        lambda node: node["inputs"].append(WIDGET),
        lambda node: node["inputs"][1].update(default=2),
        lambda node: node["inputs"][0].update(type="LATENT,IMAGE"),
        lambda node: node["inputs"][2].update(options=["threshold", "k", "both"]),
        lambda node: node["outputs"].append(["rest", "LATENT"]),
    ],
    ids=["appended", "default", "widened", "more-choices", "out-appended"],
)
def test_what_may_come_later_is_let_through(change):
    assert not broken(MADE_UP, changed(change))


def test_a_node_may_go_only_where_another_takes_its_place():
    assert broken(MADE_UP, {}) == ["A is no more"]
    assert not broken(MADE_UP, {}, ["A"])


def test_the_host_takes_a_replacement(host, new_graph):
    """Of a made-up node, in a workflow as an old browser sends it: other names, outputs in another order."""
    graph = new_graph()
    shown = graph.add("Probe_Values", value=graph.add("Probe_Replace", old="Probe_OldScore")[0])
    (taken,) = host.run(graph).require_ok().values(shown)
    assert taken is takes_replacements(host)
    if not taken:
        pytest.skip("this host replaces no nodes")
    (row,) = host.get("/node_replacements")["Probe_OldScore"]
    assert row["new_node_id"] == "LatentCLIP_Score" and row["old_widget_ids"] == ["prompt", "scale"]
    scores = []
    for node, names in (
        ("Probe_OldScore", {"model": 0, "latents": 1, "prompt": "x", "scale": 2.0}),
        ("LatentCLIP_Score", {"latent_clip": 0, "latent": 1, "text": "a red circle"}),
    ):
        graph = new_graph()
        model = graph.add("LatentCLIP_MiniWorld")[3]
        latent = graph.add("EmptyLatentImage", width=256, height=256, batch_size=1)[0]
        given = {name: {0: model, 1: latent}.get(value, value) for name, value in names.items()}
        shown = graph.add("Probe_Values", value=graph.add(node, **given)[0 if "Old" in node else 1])
        for each in graph.nodes.values():
            each["_meta"] = {}
        scores += host.run(graph).require_ok().values(shown)
    assert scores[0] == scores[1]
