"""A picture on a node: none where it is switched off, a JPEG otherwise, and live only when it is new."""

from __future__ import annotations

import numpy
import pytest
from PIL import Image
from safety_bench import GATE, POLICY
from scoring_bench import read, reward, smooth, write_latents
from test_race_nodes import Track

KINDS = ("Score", "Classify", "Heatmap", "Select", "SafetyGate")
TEXT = "a red circle"


def reader(graph, kind: str, latent, **show):
    """A node that draws for itself."""
    clip = graph.add("LatentCLIP_MiniWorld")[3]
    if kind == "Select":
        return graph.add("LatentCLIP_Select", latent=latent, reward=reward(graph, TEXT)[0], k=1, **show)
    if kind == "SafetyGate":
        policy = graph.add("LatentCLIP_SafetyPolicy", latent_clip=clip, **POLICY)
        return graph.add("LatentCLIP_SafetyGate", policy=policy[0], latent=latent, **GATE, **show)
    widgets = {"labels": f"{TEXT}\na star", "templates": "{}"} if kind == "Classify" else {"text": TEXT}
    return graph.add(f"LatentCLIP_{kind}", latent_clip=clip, latent=latent, **widgets, **show)


@pytest.mark.parametrize("kind", KINDS)
def test_the_switch_takes_the_picture_off_and_nothing_else(host, new_graph, kind):
    write_latents(host, "first_look", smooth((3, 4, 8, 8)))
    kinds = host.object_info[f"LatentCLIP_{kind}"]["output"]
    seen, heights = [], {}
    for show in ({}, {"show": True}, {"show": False}, {"show": False}):
        graph = new_graph()
        node = reader(graph, kind, read(graph, "first_look"), **show)
        plain = [i for i, of in enumerate(kinds) if of != "LATENT"]
        probes = [graph.add("Probe_Values", value=node[i]) for i in plain]
        outputs = host.run(graph).require_ok().entry["outputs"]
        (name,) = [each["filename"] for each in outputs[str(node)]["images"]]
        with Image.open(host.base / "temp" / name) as picture:
            heights[name] = picture.height
        seen.append((name, [outputs.get(str(probe)) for probe in probes]))
    assert seen[0][1] == seen[1][1] == seen[2][1] == seen[3][1] and any(seen[0][1])
    tall, plain, line, again = (name for name, _ in seen)
    assert len({tall, plain, line}) == 3 and line == again, "the line is drawn once"
    assert heights[line] < 60 < min(heights[tall], heights[plain])


@pytest.mark.parametrize("kind", KINDS)
def test_the_switch_is_the_last_widget(host, kind):
    info = host.object_info[f"LatentCLIP_{kind}"]["input"]
    assert list(info["optional"])[-1] == "show" and info["optional"]["show"][1]["default"] is True


def test_a_picture_is_a_jpeg_and_one_to_see_through_a_png(host, new_graph):
    """Named, and where, as the host's own previews; a second one in the same moment has another name."""
    for channels, kind in ((3, "JPEG"), (4, "PNG")):
        graph = new_graph()
        shown = graph.add("Probe_Values", value=graph.add("Probe_Shown", channels=channels)[0])
        (told,) = host.run(graph).require_ok().values(shown)
        names = [each["images"][0]["filename"] for each in told]
        assert len(set(names)) == 2
        for name, each in zip(names, told, strict=True):
            assert each["images"][0]["type"] == "temp" and name.startswith("ComfyUI_temp_")
            with Image.open(host.base / "temp" / name) as picture:
                assert (picture.format, picture.size) == (kind, (16, 8))
            served = host.fetch(f"/view?filename={name}&type=temp&subfolder=")
            assert served == (host.base / "temp" / name).read_bytes()


def test_reno_shows_a_live_picture_only_of_a_new_best_and_goes_on_counting(host, new_graph, sdxl_clip):
    bench, renders = Track(host, new_graph(), sdxl_clip), 12
    bench.model = bench.graph.add("Probe_WatchPreviews", value=bench.model[0])
    node = bench.reno(bench.empty(), iterations=renders, method="best_of_n")
    seen = bench.graph.add("Probe_SeenPreviews", after=node[0])
    *live, last, _ = bench.run().values(seen)
    assert last[-1] is not None
    counted = [value for value, total, *_ in live if total == renders]  # the host leaves out fast ones
    assert counted == sorted(counted) and counted[-1] == renders and len(set(counted)) > 2
    pictures = [each for each in live if each[-1]]
    assert 1 <= len(pictures) < renders
    spreads = numpy.array([spread for _, _, spread, _ in pictures])
    assert (numpy.diff(spreads) != 0).all(), "the same picture twice"
