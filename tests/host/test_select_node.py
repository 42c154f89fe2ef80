"""Select Best Latents beyond the k best: thresholds, variety, captions that name files, a grid of all."""

from __future__ import annotations

import math

import numpy
import pytest
import torch
from PIL import Image
from scoring_bench import TEXTS, dumped, read, reward, smooth, write_latents

import lclip
from lclip.mini.world import load_latent_clip


@pytest.fixture(scope="module")
def model():
    return load_latent_clip()


@pytest.fixture(scope="module")
def values(host, model):
    """Rewards of six latents that lie in the host's input folder."""
    samples = write_latents(host, "six", smooth((6, 4, 8, 8), 21), batch_index=[4, 5, 6, 7, 8, 9])
    return lclip.TextReward(model, TEXTS[0])(samples)


def select(graph, **widgets):
    wires = {"latent": read(graph, "six"), "reward": reward(graph, TEXTS[0])[0], "k": 2, **widgets}
    return graph.add("LatentCLIP_Select", **wires)


def shown(graph, node, *outputs):
    return [graph.add("Probe_Values", value=node[output]) for output in outputs]


@pytest.mark.parametrize(
    ("widgets", "number"),
    [
        ({"keep_by": "k", "k": 3}, 3),
        ({"keep_by": "threshold"}, 4),
        ({"keep_by": "both", "k": 2}, 2),
        ({"keep_by": "both", "k": 9}, 4),
        ({"keep_by": "threshold", "sort": False}, 4),
    ],
)
def test_who_is_kept_comes_with_scores_places_and_captions(host, graph, values, widgets, number):
    order = values.argsort(descending=True).tolist()
    between = float(values[order[3]] + values[order[4]]) / 2
    node = select(graph, threshold=between, seed=graph.add("PrimitiveInt", value=7)[0], **widgets)
    graph.add("Probe_DumpLatent", latent=node[0], name="kept")
    graph.add("Probe_DumpLatent", latent=node[1], name="left")
    probes = shown(graph, node, 4, 5, 6, 7)
    result = host.run(graph).require_ok()
    kept = order[:number] if widgets.get("sort", True) else sorted(order[:number])
    scores, indices, seeds, captions = (result.values(probe) for probe in probes)
    assert indices == kept and seeds == [7] * number
    torch.testing.assert_close(torch.tensor(scores), values[kept], atol=1e-5, rtol=0)
    assert captions == [f"{scores[i]:.3f} seed 7 no {4 + index}" for i, index in enumerate(kept)]
    assert dumped(host, "kept")["batch_index"].tolist() == [4 + index for index in kept]
    assert sorted([*dumped(host, "left")["batch_index"].tolist(), *(4 + i for i in kept)]) == list(
        range(4, 10)
    )


def test_a_threshold_that_nothing_reaches_runs_nothing_that_hangs_on_the_kept(host, graph, values):
    node = select(graph, keep_by="threshold", threshold=900.0)
    never = [graph.add("Probe_DumpLatent", latent=node[0], name="never"), *shown(graph, node, 4, 5, 6, 7)]
    left = graph.add("Probe_DumpLatent", latent=node[1], name="left")
    result = host.run(graph).require_ok()
    assert left in result.entry["outputs"] and not set(never) & set(result.entry["outputs"])
    assert len(dumped(host, "left")["samples"]) == 6


def test_without_a_seed_captions_tell_none(host, graph, values):
    node = select(graph, k=1)
    captions, seeds = shown(graph, node, 7, 6)
    result = host.run(graph).require_ok()
    best = int(values.argmax())
    assert result.values(captions) == [f"{float(values[best]):.3f} no {4 + best}"]
    assert seeds not in result.entry["outputs"]


K_TOO_LARGE = "k is 9, and there are 4 items: all of them are kept"
FIRST = "all rewards are equal, so they choose nothing: the first are kept. Check the reward."
BY_THRESHOLD = "all rewards are equal: the threshold keeps all of them or none. Check the reward."
BY_VARIETY = "all rewards are equal: variety alone chooses. Check the reward."


@pytest.mark.parametrize(
    ("rewards", "k", "keep_by", "variety", "kept", "told"),
    [
        ("1 2 3 4", 9, "k", 0.0, 4, [K_TOO_LARGE]),
        ("1 2 3 4", 9, "both", 0.0, 1, []),  # the threshold leaves fewer than the batch
        ("1 2 3 4", 9, "threshold", 0.0, 1, []),
        ("2 2 2 2", 2, "k", 0.0, 2, [FIRST]),
        ("2 2 2 2", 2, "k", 0.5, 2, [BY_VARIETY]),
        ("2 2 2 2", 2, "threshold", 0.0, 4, [BY_THRESHOLD]),
        ("2 2 2 2", 2, "threshold", 0.5, 0, [BY_THRESHOLD]),
        ("2 2 2 2", 2, "both", 0.0, 2, [FIRST]),
        ("2 2 2 2", 2, "both", 0.5, 2, [BY_VARIETY]),
        ("2 2 2 2", 2, "both", 0.0, 0, [BY_THRESHOLD]),
        ("2 2 2 2", 9, "k", 0.5, 4, [K_TOO_LARGE, BY_VARIETY]),
    ],
)
def test_what_chose_is_said_only_where_it_is_so(host, graph, rewards, k, keep_by, variety, kept, told):
    inputs = {"rewards": rewards, "k": k, "keep_by": keep_by, "variety": variety, "kept": kept}
    doubts = graph.add("Probe_Values", value=graph.add("Probe_SelectDoubts", **inputs)[0])
    assert host.run(graph).require_ok().values(doubts) == [told]


def test_variety_is_the_librarys_and_the_diversity_a_number(host, graph, values, model):
    with numpy.load(host.input / "six.npz") as arrays:
        embeddings = model.encode_latents(torch.from_numpy(arrays["samples"]))
    for variety in (0.0, 0.8):
        node = select(graph, k=3, variety=variety)
        indices, spread = shown(graph, node, 5, 8)
        result = host.run(graph).require_ok()
        kept = lclip.pick(values, 3, variety=variety, embeddings=embeddings).kept
        assert result.values(indices) == kept
        assert result.values(spread)[0] == pytest.approx(lclip.diversity(embeddings[kept]), abs=1e-4)


def test_a_broken_item_is_never_kept_by_a_threshold_and_stands_in_the_grid(host, graph, values):
    samples = smooth((20, 4, 8, 8), 22)
    samples[3] = math.nan
    write_latents(host, "twenty", samples)
    node = select(graph, latent=read(graph, "twenty"), keep_by="threshold", threshold=-900.0, variety=0.3)
    indices, scores = shown(graph, node, 5, 2)
    graph.add("Probe_DumpTensor", tensor=node[9], name="grid")
    result = host.run(graph).require_ok()
    assert sorted(result.values(indices)) == [i for i in range(20) if i != 3]
    assert math.isnan(result.values(scores)[3])
    grid = numpy.load(host.output / "grid.npy")
    assert grid.shape[0] == 1 and grid.shape[1] > 512 and grid.shape[2] == 512


def test_every_saved_file_carries_its_own_score(host, graph, values, model):
    """The captions as filename_prefix: one file for each kept item, named by the score of what it shows."""
    world = graph.add("LatentCLIP_MiniWorld")
    node = select(graph, k=3, variety=0.2)
    apart = graph.add("RebatchLatents", latents=node[0], batch_size=1)
    images = graph.add("VAEDecode", samples=apart[0], vae=world[2])
    graph.add("SaveImage", images=images[0], filename_prefix=node[7])
    captions = shown(graph, node, 7)[0]
    named = host.run(graph).require_ok().values(captions)
    every = graph.add("VAEDecode", samples=read(graph, "six"), vae=world[2])
    graph.add("Probe_DumpTensor", tensor=every[0], name="every")
    host.run(graph).require_ok()
    pictures = numpy.load(host.output / "every.npy")
    assert len(set(named)) == 3
    for caption in named:
        (path,) = host.output.glob(f"{caption}_*.png")
        saved = numpy.asarray(Image.open(path).convert("RGB")) / 255
        item = int(numpy.abs(pictures - saved).mean((1, 2, 3)).argmin())
        assert numpy.abs(pictures[item] - saved).mean() < 0.01
        assert caption == f"{float(values[item]):.3f} no {4 + item}"


@pytest.mark.parametrize(("variety", "broken"), [(0.0, False), (0.5, False), (0.0, True), (0.5, True)])
def test_the_latent_clip_reads_the_batch_once(host, graph, variety, broken):
    """The reward asks it; variety and diversity take what it said, of a batch with a broken item too."""
    samples = smooth((5, 4, 8, 8), 40 + broken + round(10 * variety))
    if broken:
        samples[2, 0, 0, 0] = math.nan
    write_latents(host, "read once", samples)
    world = graph.add("LatentCLIP_MiniWorld")
    own = graph.add("Probe_OwnClip", latent_clip=world[3], name=f"read once {variety} {broken}")
    counted = graph.add("Probe_CountPasses", latent_clip=own[0])[0]
    judge = graph.add("LatentCLIP_TextReward", latent_clip=counted, text=TEXTS[0], weight=1.0)
    node = select(graph, latent=read(graph, "read once"), reward=judge[0], k=3, variety=variety)
    seen = graph.add("Probe_Passes", latent_clip=counted, after=node[8])
    passes, diversity = shown(graph, seen, 0)[0], shown(graph, node, 8)[0]
    result = host.run(graph).require_ok()
    assert result.values(passes)[0] == [5] and result.values(diversity)[0] > 0
