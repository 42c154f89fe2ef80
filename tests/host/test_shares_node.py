"""Concept Shares says what the library says, and refuses in words what is no question."""

from __future__ import annotations

import csv
import io
import json

import pytest
from PIL import Image
from scoring_bench import smooth, write_latents

import lclip
from lclip.choosing.confusion import confusion
from lclip.mini.world import load_latent_clip


def shares(host, graph, concepts, **widgets):
    write_latents(host, "twelve", smooth((12, 4, 8, 8), 31))
    world = graph.add("LatentCLIP_MiniWorld")
    latent = graph.add("Probe_ReadLatent", name="twelve")[0]
    return graph.add("LatentCLIP_Shares", latent_clip=world[3], latent=latent, concepts=concepts, **widgets)


@pytest.mark.parametrize("bar", ["|", "｜"])  # as Chinese keyboards have it
def test_shares_are_the_librarys_for_every_question(host, graph, bar):
    concepts, target = (
        "a red star | a blue ring\na circle | a cross | a square",
        "0.5 | 0.5\n0.25 | 0.5 | 0.25",
    )
    texts = {
        "concepts": concepts.replace("|", bar),
        "target": target.replace("|", bar).replace("0.5", "0．5"),
    }
    node = shares(host, graph, **texts, margin=0.2)
    probes = [graph.add("Probe_Values", value=node[output]) for output in (1, 2, 4)]
    result = host.run(graph).require_ok()
    text, distance, table = (result.values(probe)[0] for probe in probes)
    model, z = load_latent_clip(), smooth((12, 4, 8, 8), 31)
    asked = [["a red star", "a blue ring"], ["a circle", "a cross", "a square"]]
    aims = ([0.5, 0.5], [0.25, 0.5, 0.25])
    wanted = [lclip.shares(model, z, names, aim, margin=0.2) for names, aim in zip(asked, aims, strict=True)]
    for found, own in zip(json.loads(text), wanted, strict=True):
        assert tuple(found["concepts"]) == own.concepts and found["unclear"] == own.unclear
        assert [each["value"] for each in found["soft"]] == pytest.approx(
            [each.value for each in own.soft], abs=1e-4
        )
    assert distance == pytest.approx(max(own.distance for own in wanted), abs=1e-4)
    assert len(table.splitlines()) == 6 and table.startswith("concept,hard")


def shown_height(result, node):
    """How tall the picture on a node is: cautions below it make it taller."""
    with Image.open(result.host.base / "temp" / result.images(node)[-1].name) as opened:
        return opened.height


@pytest.mark.parametrize(
    ("widgets", "error"),
    [
        ({"concepts": "a star"}, "two concepts or more"),
        ({"concepts": "a star\na ring", "target": "0.5 | 0.6"}, "sum"),
        ({"concepts": "a star\na ring", "target": "half"}, "target is 'half'"),
        ({"concepts": "a star\nA  star"}, "one and the same"),
        ({"concepts": "a star\na ring", "target": "0.5 | 0.5\n0.4 | 0.6"}, "target has 2 lines"),
        ({"concepts": "a star\na ring", "labels": "a star"}, "1 labels for 0 examples"),
    ],
)
def test_what_is_no_question_is_refused_in_words(host, graph, widgets, error):
    shares(host, graph, **widgets)
    assert error in host.run(graph).error


def test_examples_that_look_alike_correct_nothing_and_that_is_said(host, new_graph):
    """Both concepts' examples are the same pictures: no table tells what was taken for what."""
    heights = []
    for name, labels in (("alike", "6 * a red star\n6 * a blue ring"), ("", "")):
        graph = new_graph()
        one = smooth((6, 4, 8, 8), 31)
        write_latents(host, "alike", one.repeat(2, 1, 1, 1))
        wires = {"examples": graph.add("Probe_ReadLatent", name=name)[0]} if name else {}
        node = shares(host, graph, "a red star\na blue ring", margin=0.0, labels=labels, **wires)
        probe = graph.add("Probe_Values", value=node[1])
        result = host.run(graph).require_ok()
        (found,) = json.loads(result.values(probe)[0])
        assert found["corrected"] is None and found["distance"] is not None
        heights.append(shown_height(result, node))
    assert heights[0] > heights[1], "the caution does not stand on the node"


def test_odd_examples_are_cautioned_of(host, new_graph):
    heights = []
    for kind in ("plain", "broken"):
        graph, examples = new_graph(), smooth((4, 4, 8, 8), 5)
        if kind == "broken":
            examples[1] = float("nan")
        write_latents(host, kind, examples)
        wires = {"examples": graph.add("Probe_ReadLatent", name=kind)[0], "margin": 0.0}
        labels = "2 * a red star\n2 * a blue ring"
        node = shares(host, graph, "a red star\na blue ring", labels=labels, **wires)
        heights.append(shown_height(host.run(graph).require_ok(), node))
    assert heights[1] > heights[0]


def test_several_batches_count_as_one(host, graph):
    write_latents(host, "twelve", smooth((12, 4, 8, 8), 31))
    world = graph.add("LatentCLIP_MiniWorld")
    parts = graph.add("RebatchLatents", latents=graph.add("Probe_ReadLatent", name="twelve")[0], batch_size=5)
    names = {"concepts": "a red star | a blue ring", "margin": 0.0}
    node = graph.add("LatentCLIP_Shares", latent_clip=world[3], latent=parts[0], **names)
    whole = shares(host, graph, **names)
    probes = [graph.add("Probe_Values", value=each[1]) for each in (node, whole)]
    sizes = graph.add("Probe_DumpLatent", latent=node[0], name="a_part")
    result = host.run(graph).require_ok()
    several, one = (json.loads(*result.values(probe)) for probe in probes)
    assert several[0]["hard"] == one[0]["hard"] and several[0]["hard"][0]["n"] == 12
    assert str(sizes) in result.executed


@pytest.mark.parametrize("parts", [["a red star", "a blue ring"], ["a circle | a cross", "a star | a ring"]])
def test_a_list_of_texts_has_a_concept_or_a_question_in_each(host, graph, parts):
    """Of a wired list every entry counts, not the first alone."""
    listed = graph.add("Probe_List", values=json.dumps(parts))[0]
    wired, typed = shares(host, graph, listed), shares(host, graph, "\n".join(parts))
    probes = [graph.add("Probe_Values", value=node[1]) for node in (wired, typed)]
    result = host.run(graph).require_ok()
    found, own = (result.values(probe) for probe in probes)
    assert found == own and len(json.loads(*found)) == (2 if "|" in parts[0] else 1)


def test_of_several_margins_the_first_counts_and_that_is_said(host, new_graph):
    found = []
    for margins in ("[0.1]", "[0.1, 0.1]", "[0.1, 0.9]"):
        graph = new_graph()
        margin = graph.add("Probe_List", values=margins)[0]
        node = shares(host, graph, "a red star\na blue ring", margin=margin)
        probe = graph.add("Probe_Values", value=node[1])
        result = host.run(graph).require_ok()
        found.append((result.values(probe), shown_height(result, node)))
    assert found[0] == found[1] and found[2][0] == found[0][0] and found[2][1] > found[0][1]


def test_labelled_examples_correct_what_is_counted(host, graph):
    """With a target for each question, and what the table says of the corrected."""
    write_latents(host, "examples", smooth((20, 4, 8, 8), 43))
    asked = [["a circle", "a square"], ["a red star", "a blue star"]]
    truths = [[0] * 10 + [1] * 10, [0, 1] * 10]
    labels = "\n".join(" | ".join((asked[0][a], asked[1][b])) for a, b in zip(*truths, strict=True))
    node = shares(
        host, graph, "\n".join(map(" | ".join, asked)), margin=0.0, target="0.25 | 0.75\n0.5 | 0.5",
        examples=graph.add("Probe_ReadLatent", name="examples")[0], labels=labels,
    )  # fmt: skip
    probes = [graph.add("Probe_Values", value=node[output]) for output in (1, 4)]
    result = host.run(graph).require_ok()
    (told,), (table,) = (result.values(probe) for probe in probes)
    model, z = load_latent_clip(), smooth((12, 4, 8, 8), 31)
    for found, names, truth, aim in zip(
        json.loads(told), asked, truths, [[0.25, 0.75], [0.5, 0.5]], strict=True
    ):
        mixing = confusion(lclip.classify(model, smooth((20, 4, 8, 8), 43), names), truth, 0.0)
        own = lclip.shares(model, z, names, aim, margin=0.0, confusion=mixing)
        assert found["corrected"] == pytest.approx(own.corrected, abs=1e-4)
        assert found["target"] == aim and found["distance"] == pytest.approx(own.distance, abs=1e-4)
    rows = list(csv.DictReader(io.StringIO(table)))
    assert len(rows) == 4 and all(float(row["corrected"]) >= 0 and row["items"] == "12" for row in rows)
