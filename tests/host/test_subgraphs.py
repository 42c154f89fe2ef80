"""The subgraph blueprint: listed by the host, made of nodes that it has, and it picks what it should."""

from __future__ import annotations

import json
import urllib.error
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image
from workflow_blueprint import NAME, OUTSIDE_IN, OUTSIDE_OUT, blueprint

from lclip.mini.oracle import describe

FILE = Path(__file__).resolve().parents[2] / "subgraphs" / f"{NAME}.json"


def inside() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))["definitions"]["subgraphs"][0]


def test_the_file_is_what_is_planned(definitions):
    assert json.loads(FILE.read_text(encoding="utf-8")) == blueprint(definitions)


def test_every_link_is_known_at_both_ends():
    graph = inside()
    nodes = {node["id"]: node for node in graph["nodes"]}
    for link in graph["links"]:
        if link["origin_id"] == OUTSIDE_IN:
            leaves = graph["inputs"][link["origin_slot"]]["linkIds"]
        else:
            leaves = nodes[link["origin_id"]]["outputs"][link["origin_slot"]]["links"]
        if link["target_id"] == OUTSIDE_OUT:
            enters = graph["outputs"][link["target_slot"]]["linkIds"]
        else:
            enters = [nodes[link["target_id"]]["inputs"][link["target_slot"]]["link"]]
        assert link["id"] in leaves and link["id"] in enters


def test_it_shows_the_picture_of_select_outside():
    """By both names that frontends take: 1.43 the one, 1.49 and later the other."""
    (node,) = json.loads(FILE.read_text(encoding="utf-8"))["nodes"]
    (select,) = [str(each["id"]) for each in inside()["nodes"] if each["type"] == "LatentCLIP_Select"]
    picture = "$$canvas-image-preview"
    assert [select, picture] in node["properties"]["proxyWidgets"]
    exposed = {"name": picture, "sourceNodeId": select, "sourcePreviewName": picture}
    assert node["properties"]["previewExposures"] == [exposed]


def test_the_host_lists_it(host):
    try:
        found = host.get("/global_subgraphs")
    except urllib.error.HTTPError as error:
        assert error.code == 404
        pytest.skip("this host knows no subgraph blueprints")
    assert NAME in [entry["name"] for entry in found.values()]


def expand(graph, **outside: Any) -> dict[str, list[Any]]:
    """The blueprint in API form, its inputs wired or set as named; returns its outputs by name."""
    inner, placed = inside(), {}
    names = [socket["name"] for socket in inner["inputs"]]
    by_id = {link["id"]: link for link in inner["links"]}
    for node in inner["nodes"]:
        widgets = [socket["name"] for socket in node["inputs"] if "widget" in socket]
        inputs = dict(zip(widgets, node["widgets_values"], strict=True))
        for socket in node["inputs"]:
            link = by_id.get(socket["link"])
            if link and link["origin_id"] == OUTSIDE_IN:
                inputs[socket["name"]] = outside[names[link["origin_slot"]]]
            elif link:
                inputs[socket["name"]] = placed[link["origin_id"]][link["origin_slot"]]
        placed[node["id"]] = graph.add(node["type"], **inputs)
    ends = (by_id[socket["linkIds"][0]] for socket in inner["outputs"])
    found = [placed[link["origin_id"]][link["origin_slot"]] for link in ends]
    return dict(zip((socket["name"] for socket in inner["outputs"]), found, strict=True))


def test_it_picks_the_two_that_show_the_text(host, graph):
    """Two pictures of red circles and two of a yellow star in one batch: the oracle says what is picked."""
    world, pairs = graph.add("LatentCLIP_MiniWorld"), []
    for text in ("a yellow star on a black ground", "two red circles"):
        words = graph.add("CLIPTextEncode", text=text, clip=world[1])
        empty = graph.add("EmptyLatentImage", width=64, height=64, batch_size=2)
        latents = graph.add(
            "KSampler", model=world[0], seed=7, steps=1, cfg=1.0, sampler_name="euler", scheduler="normal",
            positive=words[0], negative=words[0], latent_image=empty[0], denoise=1.0,
        )  # fmt: skip
        pairs.append(graph.add("VAEDecode", samples=latents[0], vae=world[2]))
    four = graph.add("ImageBatch", image1=pairs[0][0], image2=pairs[1][0])
    batch = graph.add("VAEEncode", pixels=four[0], vae=world[2])
    picked = expand(graph, latent_clip=world[3], latent=batch[0], text="two red circles", k=2)
    saved = {}
    for name in ("best", "rest"):
        images = graph.add("VAEDecode", samples=picked[name], vae=world[2])
        saved[name] = graph.add("SaveImage", images=images[0], filename_prefix=name)
    result = host.run(graph).require_ok()
    for name, shape in (("best", "circle"), ("rest", "star")):
        pictures = [numpy.asarray(Image.open(path).convert("RGB")) for path in result.images(saved[name])]
        assert len(pictures) == 2
        assert all({thing.shape for thing in describe(picture)[1]} == {shape} for picture in pictures)
