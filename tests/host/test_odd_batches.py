"""Batches that are not as usual, at the nodes that read latents: broken items, one frame, no pictures."""

from __future__ import annotations

import math

import numpy
import pytest
import torch
from PIL import Image
from reno_bench import Bench
from scoring_bench import TEXTS, dumped, read, reward, score, select, smooth, write_latents

import lclip
from lclip.mini.world import WEIGHTS

BAD = 1  # the item that holds a NaN
READERS = ("Score", "Classify", "Heatmap", "Select")


@pytest.fixture(scope="module")
def model():
    return lclip.load(WEIGHTS / "latent_clip.safetensors")


@pytest.fixture
def broken(host):
    """Four items, one of them with a single NaN: [4, 4, 8, 8], also in the host's input folder."""
    samples = smooth((4, 4, 8, 8))
    samples[BAD, 2, 3, 4] = float("nan")
    return write_latents(host, "broken", samples)


def reader(graph, kind: str, name: str):
    """A node of this kind on a file of latents."""
    latent, clip = read(graph, name), graph.add("LatentCLIP_MiniWorld")[3]
    if kind == "Select":
        return graph.add("LatentCLIP_Select", latent=latent, reward=reward(graph, TEXTS[0])[0], k=1)
    widgets = {"labels": "\n".join(TEXTS), "templates": "{}"} if kind == "Classify" else {"text": TEXTS[0]}
    return graph.add(f"LatentCLIP_{kind}", latent_clip=clip, latent=latent, **widgets)


def height_of_the_picture(host, graph, node) -> int:
    """How tall the picture on the node is: what is said below it makes it taller."""
    (picture,) = host.run(graph).require_ok().images(node)
    with Image.open(host.base / "temp" / picture.name) as opened:
        return opened.height


def test_score_shows_a_broken_item_as_nan_and_never_as_the_best(host, graph, model, broken):
    node = score(graph, "\n".join(TEXTS), read(graph, "broken"))
    best, scores, report = (graph.add("Probe_Values", value=node[i]) for i in (1, 2, 3))
    result = host.run(graph).require_ok()
    values, (text,) = result.values(scores), result.values(report)
    good = [index for index in range(4) if index != BAD]
    wanted = lclip.similarity(model, broken[good], TEXTS).mean(1)
    assert math.isnan(values[BAD])
    torch.testing.assert_close(torch.tensor(values)[good], wanted, atol=1e-5, rtol=0)
    assert result.values(best) == [pytest.approx(float(wanted.max()), abs=1e-5)]
    (chosen,) = [line for line in text.splitlines() if line.endswith("best")]
    assert int(chosen.split()[0]) == good[int(wanted.argmax())]
    (row,) = [line for line in text.splitlines() if line.split()[:1] == [str(BAD)]]
    assert "NaN" in row and "Caution" in text and f"item {BAD} of 4" in text


def test_classify_calls_a_broken_item_unreadable(host, graph, model, broken):
    node = reader(graph, "Classify", "broken")
    tops, chances = (graph.add("Probe_Values", value=node[i]) for i in (1, 2))
    result = host.run(graph).require_ok()
    wanted = lclip.classify(model, broken, TEXTS)
    for index in range(4):
        if index == BAD:
            assert result.values(tops)[index] == "unreadable" and math.isnan(result.values(chances)[index])
        else:
            assert result.values(tops)[index] == TEXTS[int(wanted[index].argmax())]


def test_a_heatmap_of_a_broken_item_is_empty(host, graph, broken):
    node = reader(graph, "Heatmap", "broken")
    for output, name in ((0, "mask"), (1, "overlay")):
        graph.add("Probe_DumpTensor", tensor=node[output], name=f"broken_{name}")
    host.run(graph).require_ok()
    mask, overlay = (numpy.load(host.output / f"broken_{name}.npy") for name in ("mask", "overlay"))
    assert numpy.isfinite(mask).all() and numpy.isfinite(overlay).all()
    assert (mask[BAD] == 0).all() and all(mask[index].max() > 0.99 for index in range(4) if index != BAD)


def test_select_ranks_a_broken_item_last(host, graph, broken):
    node = select(graph, 4, latent=read(graph, "broken"))
    scores, picks = (graph.add("Probe_Values", value=node[i]) for i in (2, 3))
    result = host.run(graph).require_ok()
    assert math.isnan(result.values(scores)[BAD])
    assert result.values(picks)[0].split(", ")[-1] == str(BAD)


@pytest.mark.parametrize("kind", READERS)
def test_a_batch_of_nothing_but_broken_items_is_refused(host, graph, kind):
    write_latents(host, "all_broken", torch.full((2, 4, 8, 8), float("nan")))
    graph.add("Probe_Values", value=reader(graph, kind, "all_broken")[0])
    error = host.run(graph).error
    assert "NaN or infinity" in error and "item 0, 1 of 2" in error


@pytest.mark.parametrize("kind", READERS)
def test_what_is_odd_stands_on_the_node(host, new_graph, kind):
    write_latents(host, "plain", smooth((2, 4, 8, 8)))
    odd = smooth((2, 4, 8, 8))
    odd[BAD] = float("inf")
    write_latents(host, "odd", odd)
    heights = []
    for name in ("plain", "odd"):
        graph = new_graph()
        heights.append(height_of_the_picture(host, graph, reader(graph, kind, name)))
    assert heights[1] > heights[0] + 20


def test_select_says_on_the_node_that_k_was_too_large(host, new_graph):
    write_latents(host, "three", smooth((3, 4, 8, 8)))
    heights = []
    for k in (3, 9):
        graph = new_graph()
        heights.append(height_of_the_picture(host, graph, select(graph, k, latent=read(graph, "three"))))
    assert heights[1] > heights[0] + 20


@pytest.mark.parametrize("kind", READERS)
def test_one_frame_is_read_as_a_picture(host, graph, kind):
    flat = write_latents(host, "flat", smooth((3, 4, 8, 8)))
    write_latents(host, "framed", flat[:, :, None])
    output = {"Score": 2, "Classify": 2, "Heatmap": 0, "Select": 2}[kind]
    for name in ("flat", "framed"):
        graph.add("Probe_DumpTensor" if kind == "Heatmap" else "Probe_Values", **{
            "tensor" if kind == "Heatmap" else "value": reader(graph, kind, name)[output],
            **({"name": f"heat_{name}"} if kind == "Heatmap" else {}),
        })  # fmt: skip
    result = host.run(graph).require_ok()
    if kind == "Heatmap":
        maps = [numpy.load(host.output / f"heat_{name}.npy") for name in ("flat", "framed")]
        numpy.testing.assert_array_equal(*maps)
        return
    asked = [name for name, node in graph.nodes.items() if node["class_type"] == "Probe_Values"]
    first, second = (result.values(name) for name in asked)
    assert first == pytest.approx(second, abs=1e-6) and len(first) == 3


def test_select_gives_one_frame_back_as_it_came(host, graph):
    samples = write_latents(host, "frames", smooth((3, 4, 8, 8))[:, :, None])
    node = select(graph, 1, latent=read(graph, "frames"))
    graph.add("Probe_DumpLatent", latent=node[0], name="frame")
    picks = graph.add("Probe_Values", value=node[3])
    (pick,) = host.run(graph).require_ok().values(picks)
    numpy.testing.assert_array_equal(dumped(host, "frame")["samples"], samples[[int(pick)]].numpy())


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    ("shape", "mark", "said"),
    [
        ((1, 4, 3, 8, 8), None, "Latent Cut"),
        ((1, 8, 64, 16), "audio", "sound"),
        ((1, 4, 8, 8), "hunyuan3dv2", "3-D shape"),
    ],
)
def test_what_is_no_picture_is_refused_in_words_for_artists(host, graph, kind, shape, mark, said):
    more = {} if mark is None else {"type": mark}
    name = f"kind_{mark}_{len(shape)}"
    write_latents(host, name, torch.ones(shape), **more)
    graph.add("Probe_Values", value=reader(graph, kind, name)[0])
    error = host.run(graph).error
    assert said in error and "z[" not in error


@pytest.fixture
def bench(host, graph, sdxl_clip):
    return Bench(host, graph, sdxl_clip)


@pytest.fixture
def framed(bench):
    """A model of one-frame latents, and an empty one: [1, 4, 1, 12, 12]."""
    numpy.savez(bench.host.input / "empty_frame.npz", samples=numpy.zeros((1, 4, 1, 12, 12), numpy.float32))
    return bench.graph.add("Probe_OneFrame", model=bench.model[0])[0], read(bench.graph, "empty_frame")


@pytest.mark.parametrize("method", ["gradient", "zero_order", "best_of_n"])
def test_reno_searches_one_frame_as_a_picture(bench, framed, method):
    model, latent = framed
    found = bench.reno(latent, model, method=method, seed=11, iterations=24)
    for output, name in ((0, "frame_best"), (1, "frame_initial")):
        bench.dump(found[output], name)
    bench.dump(bench.ksampler(latent, model, seed=11)[0], "frame_stock")
    best = bench.graph.add("Probe_Values", value=found[3])
    again, first = (bench.score(found[output]) for output in (0, 1))
    result = bench.run()
    assert bench.samples("frame_best").shape == (1, 4, 1, 12, 12)
    assert bench.same("frame_initial", "frame_stock")
    assert result.values(best) == pytest.approx(result.values(again), rel=1e-4)
    assert result.values(again)[0] > result.values(first)[0]


def test_guidance_steers_one_frame_as_a_picture(bench, framed):
    model, latent = framed
    scores = []
    for strength in (0.0, 0.1):
        steered = bench.graph.add(
            "LatentCLIP_Guidance", model=model, reward=bench.reward(), strength=strength, start=0.0, end=1.0
        )
        scores.append(bench.score(bench.ksampler(latent, steered[0], steps=6)[0]))
    result = bench.run()
    plain, steered = (result.values(value)[0] for value in scores)
    assert steered > plain
