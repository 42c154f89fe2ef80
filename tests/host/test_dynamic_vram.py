"""Noise search in models whose weights the host brings in on demand, where it knows such models."""

from __future__ import annotations

import numpy
import pytest
import torch
from reno_bench import STATIC, Bench


@pytest.fixture
def bench(host, graph, sdxl_clip):
    source = (host.checkout / "comfy" / "model_patcher.py").read_text(encoding="utf-8")
    if "def get_non_dynamic_delegate" not in source:
        pytest.skip("this ComfyUI has no dynamic VRAM")
    return Bench(host, graph, sdxl_clip)


def on_demand(bench, lora=False, known=True):
    model = bench.graph.add("Probe_OnDemand", seed=1, known=known)[0]
    return bench.graph.add("Probe_LoRA", model=model, seed=3, strength=1.0)[0] if lora else model


@pytest.mark.parametrize("lora", [False, True])
def test_the_search_is_that_of_the_model_as_a_whole(bench, lora):
    latent, reward, model = bench.empty(2), bench.reward(), bench.model[0]
    if lora:
        model = bench.graph.add("Probe_LoRA", model=model, seed=3, strength=1.0)[0]
    bench.dump(bench.reno(latent, model, reward=reward, seed=80 + lora)[0], "whole")
    demanding = on_demand(bench, lora)
    for turn in range(2):  # the second time the host has the whole copy at hand
        found = bench.reno(latent, demanding, reward=reward, seed=80 + lora, denoise=1.0 - 1e-5 * turn)
        bench.dump(found[0], f"found{turn}")
    bench.run()
    assert bench.same("found0", "whole") and bench.same("found1", "whole")


def test_afterwards_the_guider_has_its_own_model_again_and_the_copy_is_unloaded(bench):
    """A guider stays in the cache of its node: what the search leaves in it, the next run would find."""
    numpy.save(bench.host.input / "start.npy", torch.randn(1, 4, 12, 12).numpy())
    latent = bench.empty()
    bench.dump(bench.advanced("start", latent)[0], "plain")
    bench.model = [on_demand(bench)]
    search = bench.advanced("start", latent)
    sampler = bench.graph.add("LatentCLIP_ReNOSampler", reward=bench.reward(), sampler_name="euler", **STATIC)
    bench.graph.nodes[search]["inputs"]["sampler"] = sampler[0]
    count = loaded_after(bench, search)
    assert bench.run().values(count) == [2]  # the plain one, and the one on demand
    euler = bench.graph.add("KSamplerSelect", sampler_name="euler")[0]
    stock = {**bench.graph.nodes[search]["inputs"], "sampler": euler}
    again = bench.graph.add("SamplerCustomAdvanced", **stock)
    bench.dump(again[0], "again")
    count = loaded_after(bench, again)
    assert bench.run().values(count) == [2]
    assert bench.same("again", "plain")


def loaded_after(bench, node):
    loaded = bench.graph.add("Probe_LoadedModels", after=node[0])
    return bench.graph.add("Probe_Values", value=loaded[0])


def test_a_model_of_unknown_source_is_refused_with_what_to_do(bench):
    bench.dump(bench.reno(bench.empty(), on_demand(bench, known=False))[0], "refused")
    error = bench.host.run(bench.graph).error
    assert "dynamic VRAM" in error and "--disable-dynamic-vram" in error and "zero_order" in error


def test_a_controlnet_beside_it_is_refused_with_what_to_do(bench):
    control = bench.graph.add("Probe_TinyControlNet", seed=4)
    hint = bench.graph.add("EmptyImage", width=96, height=96, batch_size=1, color=0x3366CC)
    positive = bench.graph.add(
        "ControlNetApplyAdvanced", positive=bench.positive, negative=bench.negative, control_net=control[0],
        image=hint[0], strength=1.0, start_percent=0.0, end_percent=1.0,
    )[0]  # fmt: skip
    bench.dump(bench.reno(bench.empty(), on_demand(bench), positive)[0], "refused")
    error = bench.host.run(bench.graph).error
    assert "ControlNet" in error and "--disable-dynamic-vram" in error


def test_without_gradients_it_is_searched_as_it_is(bench):
    found = bench.reno(bench.empty(), on_demand(bench, known=False), method="best_of_n", iterations=4)
    initial, best = bench.score(found[1]), bench.score(found[0])
    result = bench.run()
    assert result.values(best)[0] >= result.values(initial)[0]
