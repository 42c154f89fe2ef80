"""A batch that does not fit into memory is sampled in parts and ends the same, however the device says it."""

from __future__ import annotations

import pytest
from agreement import near
from test_explore_node import LATENT, Atlas
from test_race_nodes import Track
from test_slider_node import Slide

SAID = ("torch", "accelerator", "words")


def nodes_of(host, graph, clip):
    """Per searching node: how its latents are made by a MODEL, and whether only gradients are too much."""
    slide, track, atlas = Slide(host, graph, clip), Track(host, graph, clip), Atlas(host, graph, clip)
    return {
        "ReNO": (lambda model: slide.reno(slide.empty(2), model)[0], False),
        "slider": (lambda model: slide.slide(slide.empty(2), model, positions=2, iterations=2)[0], False),
        "race": (lambda model: track.race(track.empty(), model)[0], True),
        "map": (lambda model: atlas.explore(atlas.empty(), model, cells=2)[LATENT], True),
    }


def tight(slide, said, always):
    return slide.graph.add("Probe_RunsOutOfMemory", model=slide.model[0], always=always, said=said)[0]


@pytest.mark.parametrize("said", SAID)
def test_it_is_known_however_it_is_said(host, graph, sdxl_clip, said):
    bench = Slide(host, graph, sdxl_clip)
    nodes = nodes_of(host, graph, sdxl_clip)
    for name, (made, always) in nodes.items():
        bench.dump(made(bench.model[0]), f"{name} roomy")
        bench.dump(made(tight(bench, said, always)), f"{name} tight")
    bench.run()
    for name in nodes:
        near(host, bench.samples(f"{name} tight"), bench.samples(f"{name} roomy"), 1e-4, 1e-3)


@pytest.mark.parametrize("name", ["ReNO", "slider", "race", "map"])
def test_another_failure_is_told_as_it_is(host, graph, sdxl_clip, name):
    bench = Slide(host, graph, sdxl_clip)
    made, always = nodes_of(host, graph, sdxl_clip)[name]
    bench.dump(made(tight(bench, "otherwise", always)), "never")
    assert "the probe fails for another reason" in host.run(graph).error


@pytest.mark.parametrize("where", ["reward", "guide"])
def test_items_that_look_at_each_other_are_not_searched_alone(host, graph, sdxl_clip, where):
    """Each alone has no others: a Variety Reward would be 0, and the search would find nothing."""
    bench = Slide(host, graph, sdxl_clip)
    variety = graph.add("LatentCLIP_VarietyReward", latent_clip=bench.clip[0], weight=1.0)[0]
    model, wires = tight(bench, "torch", False), {"reward": variety}
    if where == "guide":
        model = graph.add(
            "LatentCLIP_Guidance", model=model, reward=variety, strength=0.1, start=0.0, end=1.0
        )[0]
        wires = {}
    bench.dump(bench.reno(bench.empty(2), model, **wires)[0], "never")
    error = host.run(graph).error
    assert "batch of 2 does not fit into memory" in error and "a Variety Reward looks at all of it" in error
