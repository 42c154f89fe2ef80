"""Guidance has room for its gradients, makes do with less, and loads each Latent-CLIP once."""

from __future__ import annotations

import pytest
import torch
from reno_bench import Bench


@pytest.fixture
def bench(host, graph, sdxl_clip):
    return Bench(host, graph, sdxl_clip)


def guided(bench, model=None, reward=None, strength=0.1):
    return bench.graph.add(
        "LatentCLIP_Guidance", model=model or bench.model[0], reward=reward or bench.reward(),
        strength=strength, start=0.0, end=1.0,
    )[0]  # fmt: skip


def loading(bench, strength, name):
    """[most, least] bytes that the host was asked for, of each time it loaded something for a sampling."""
    recorded = bench.graph.add("Probe_RecordLoading", value=bench.empty(3))
    made = bench.ksampler(recorded[0], guided(bench, strength=strength), steps=2, denoise=0.9)
    bench.dump(made[0], name)
    seen = bench.graph.add("Probe_RecordedLoading", after=made[0])
    shown = bench.graph.add("Probe_Values", value=seen[0])
    return [asked for asked in bench.run().values(shown)[0] if any(asked)]


def test_the_host_is_told_before_it_samples(host, new_graph, sdxl_clip):
    stock = loading(Bench(host, new_graph(), sdxl_clip), 0.0, "stock")
    found = loading(Bench(host, new_graph(), sdxl_clip), 0.1, "told")
    assert found[: len(stock)] == stock and len(found) == len(stock) + 1
    (most, least), (most_before, least_before) = found[-1], stock[-1]
    assert most > most_before and least > least_before
    assert most - most_before == pytest.approx(3 * (least - least_before))  # for three items, and for one


@pytest.mark.parametrize("way", ["told", "found"])
def test_a_batch_that_does_not_fit_is_split_and_moves_the_same(host, new_graph, sdxl_clip, way):
    for name in ("whole", "parts"):
        bench = Bench(host, new_graph(), sdxl_clip)
        if name == "parts":
            bench.clip = bench.graph.add("Probe_OwnClip", latent_clip=bench.clip[0], name=f"{way}{name}")
            bench.clip = bench.graph.add("Probe_Short", latent_clip=bench.clip[0], way=way)
        counted = bench.graph.add("Probe_CountPasses", latent_clip=bench.clip[0])
        reward = bench.graph.add("LatentCLIP_TextReward", latent_clip=counted[0], text="a circle", weight=1.0)
        made = bench.ksampler(bench.empty(3), guided(bench, reward=reward[0]), steps=3, denoise=0.9)[0]
        bench.dump(made, name)
        passes = bench.graph.add("Probe_Passes", latent_clip=counted[0], after=made)
        shown = bench.graph.add("Probe_Values", value=passes[0])
        seen = bench.run().values(shown)[0]
        assert set(seen) == ({3} if name == "whole" else {1}), seen
    torch.testing.assert_close(bench.samples("parts"), bench.samples("whole"), rtol=1e-4, atol=1e-4)


def test_chained_guides_share_one_patcher(bench):
    model = bench.model[0]
    for text in ("a red square", "a blue circle", "a circle"):
        model = guided(bench, model, bench.reward(text))
    counts = [bench.graph.add("Probe_Values", value=bench.graph.add("Probe_Companions", model=model)[0])]
    lora = bench.graph.add("Probe_LoRA", model=model, seed=3, strength=1.0)[0]
    model = guided(bench, lora, bench.reward("a square"))
    counts.append(bench.graph.add("Probe_Values", value=bench.graph.add("Probe_Companions", model=model)[0]))
    bench.dump(bench.ksampler(bench.empty(), model, steps=2)[0], "chained")
    result = bench.run()
    assert [result.values(count)[0] for count in counts] == [[1], [1]]


def test_a_latent_clip_that_is_there_only_partly_is_refused(bench):
    own = bench.graph.add("Probe_OwnClip", latent_clip=bench.clip[0], name="partly")
    short = bench.graph.add("Probe_Short", latent_clip=own[0], way="partly there")
    reward = bench.graph.add("LatentCLIP_TextReward", latent_clip=short[0], text="a circle", weight=1.0)
    bench.dump(bench.ksampler(bench.empty(), guided(bench, reward=reward[0]), steps=2)[0], "refused")
    error = bench.host.run(bench.graph).error
    assert "only partly" in error and "Free memory" in error
