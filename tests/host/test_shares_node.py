"""Concept Shares says what the library says, and refuses in words what is no question."""

from __future__ import annotations

import json

import pytest
from scoring_bench import smooth, write_latents

import lclip
from lclip.mini.world import load_latent_clip


def shares(host, graph, concepts, **widgets):
    write_latents(host, "twelve", smooth((12, 4, 8, 8), 31))
    world = graph.add("LatentCLIP_MiniWorld")
    latent = graph.add("Probe_ReadLatent", name="twelve")[0]
    return graph.add("LatentCLIP_Shares", latent_clip=world[3], latent=latent, concepts=concepts, **widgets)


def test_shares_are_the_librarys_for_every_question(host, graph):
    node = shares(host, graph, "a red star | a blue ring\na circle | a cross | a square", margin=0.2)
    probes = [graph.add("Probe_Values", value=node[output]) for output in (1, 2, 4)]
    result = host.run(graph).require_ok()
    text, distance, table = (result.values(probe)[0] for probe in probes)
    model, z = load_latent_clip(), smooth((12, 4, 8, 8), 31)
    asked = [["a red star", "a blue ring"], ["a circle", "a cross", "a square"]]
    wanted = [lclip.shares(model, z, names, margin=0.2) for names in asked]
    for found, own in zip(json.loads(text), wanted, strict=True):
        assert tuple(found["concepts"]) == own.concepts and found["unclear"] == own.unclear
        assert [each["value"] for each in found["soft"]] == pytest.approx(
            [each.value for each in own.soft], abs=1e-4
        )
    assert distance == pytest.approx(max(own.distance for own in wanted), abs=1e-4)
    assert len(table.splitlines()) == 6 and table.startswith("concept,hard")


@pytest.mark.parametrize(
    ("widgets", "error"),
    [
        ({"concepts": "a star"}, "two concepts or more"),
        ({"concepts": "a star\na ring", "target": "0.5 | 0.6"}, "sum"),
        ({"concepts": "a star\na ring", "target": "half"}, "target is 'half'"),
        ({"concepts": "a star\nA  star"}, "one and the same"),
    ],
)
def test_what_is_no_question_is_refused_in_words(host, graph, widgets, error):
    shares(host, graph, **widgets)
    assert error in host.run(graph).error
