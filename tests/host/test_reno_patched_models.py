"""Noise search on models that other nodes have patched: attention without a derivative, step caches, samplers
that write into what they get."""

from __future__ import annotations

import numpy
import pytest
import torch
from agreement import same
from reno_bench import STATIC, Bench

CACHES = ("EasyCache", "LazyCache")


@pytest.fixture
def bench(host, graph, sdxl_clip):
    return Bench(host, graph, sdxl_clip)


def test_the_gradient_passes_an_attention_that_another_node_cut(bench):
    """Against finite differences of stock renders: the cut kernel's own gradient is another one."""
    rate, latent, reward = 2.0, bench.empty(size=64), bench.reward()
    cut = bench.graph.add("Probe_CutAttention", model=bench.model[0])
    plain = {
        "steps": 2, "regularization": 0.0, "grad_clip": 100.0, "custom_lr": True, "lr": rate,
    }  # fmt: skip
    for name, iterations in (("cut_start", 0), ("cut_moved", 2)):
        found = bench.reno(latent, cut[0], reward=reward, iterations=iterations, **plain)
        bench.graph.add("Probe_DumpNoise", noise=found[2], latent=latent, name=name)
    bench.run()
    start, moved = (
        torch.from_numpy(numpy.load(bench.host.output / f"{n}.npy")) for n in ("cut_start", "cut_moved")
    )
    gradient = (moved - start) / (1.9 * rate)  # the first Nesterov step is (1 + momentum) lr g
    assert gradient.abs().max() > 0
    reach, probes = 0.003, []
    for number in range(3):
        direction = torch.randn(start.shape, generator=torch.Generator().manual_seed(number))
        direction = direction + 20 * gradient / gradient.norm()
        for sign in (1, -1):
            name = f"cut_{number}{sign}"
            numpy.save(bench.host.input / f"{name}.npy", (start + sign * reach * direction).numpy())
            probes.append((direction, bench.score(bench.advanced(name, latent, steps=2)[0], reward)))
    result = bench.run()
    for (direction, ahead), (_, behind) in zip(probes[::2], probes[1::2], strict=True):
        difference = (result.values(ahead)[0] - result.values(behind)[0]) / (2 * reach)
        assert float((gradient.double() * direction.double()).sum()) == pytest.approx(difference, rel=1e-2)


def test_models_on_several_gpus_are_refused_by_name(bench):
    spread = bench.graph.add("Probe_TwoGPUs", model=bench.model[0])
    bench.dump(bench.reno(bench.empty(), spread[0])[0], "refused")
    error = bench.host.run(bench.graph).error
    assert "multi-GPU" in error and "zero_order" in error


@pytest.mark.parametrize("method", ["gradient", "zero_order"])
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("start", [0.0, 0.15])
def test_step_caches_begin_anew_with_each_render(bench, cache, method, start):
    """The stock node renders once, from a fresh cache: the search's renders are the same."""
    node = bench.graph.add(
        cache, model=bench.model[0], reuse_threshold=3.0, start_percent=start, end_percent=0.95, verbose=False
    )
    bench.model, latent = node, bench.empty()
    found = bench.reno(latent, steps=6, method=method, iterations=4, lr=0.5)
    bench.dump(found[0], "cached_best")
    bench.dump(found[1], "cached_initial")
    bench.dump(bench.advanced(found[2], latent, steps=6)[0], "cached_again")
    bench.dump(bench.ksampler(latent, steps=6)[0], "cached_stock")
    bench.run()
    assert bench.same("cached_initial", "cached_stock")
    assert bench.same("cached_best", "cached_again")


def alone(bench, name, latent, **stage):
    """Renders of each item of a NOISE of two by itself, by the stock node."""
    noise = numpy.load(bench.host.output / f"{name}.npy")
    for item in range(2):
        numpy.save(bench.host.input / f"{name}{item}.npy", noise[item : item + 1])
        bench.dump(bench.advanced(f"{name}{item}", latent, **stage)[0], f"{name}{item}")
    bench.run()
    return torch.cat([bench.samples(f"{name}{item}") for item in range(2)])


@pytest.mark.parametrize("method", ["gradient", "zero_order", "best_of_n"])
@pytest.mark.parametrize("cache", CACHES)
def test_under_a_step_cache_each_item_is_searched_alone(bench, cache, method):
    """The cache decides by the mean over a batch; the search keeps each item's best, of different renders."""
    bench.model = bench.graph.add(
        cache, model=bench.model[0], reuse_threshold=0.2, start_percent=0.15, end_percent=0.95, verbose=False
    )
    latent = bench.empty(2)
    found = bench.reno(latent, steps=8, method=method, iterations=6, custom_lr=True, lr=0.5)
    name = f"two_{cache}_{method}"
    bench.dump(found[0], name)
    bench.graph.add("Probe_DumpNoise", noise=found[2], latent=latent, name=name)
    bench.run()
    best = bench.samples(name)
    assert same(bench.host, best, alone(bench, name, bench.empty(1), steps=8))


def test_a_step_cache_and_a_reward_of_the_whole_batch_are_refused(bench):
    bench.model = bench.graph.add(
        "EasyCache", model=bench.model[0], reuse_threshold=0.2, start_percent=0.15, end_percent=0.95,
        verbose=False,
    )  # fmt: skip
    varied = bench.graph.add(
        "LatentCLIP_VarietyReward", latent_clip=bench.clip[0], weight=1.0, add_to=bench.reward()
    )[0]
    for method in ("gradient", "zero_order"):
        found = bench.reno(bench.empty(2), reward=varied, steps=8, method=method)
        bench.dump(found[0], f"refused_{method}")
        error = bench.host.run(bench.graph).error
        assert "step cache" in error and "Variety" in error
        bench.graph.nodes.pop(next(reversed(bench.graph.nodes)))


def controlled(bench):
    control = bench.graph.add("Probe_TinyControlNet", seed=4)
    hint = bench.graph.add("EmptyImage", width=96, height=96, batch_size=1, color=0x3366CC)
    return bench.graph.add(
        "ControlNetApplyAdvanced", positive=bench.positive, negative=bench.negative, control_net=control[0],
        image=hint[0], strength=1.0, start_percent=0.0, end_percent=1.0,
    )[0]  # fmt: skip


def test_a_controlnet_whose_attention_cuts_the_gradient_is_refused_by_name(bench):
    """It takes no options of a render, so that its attention cannot be overridden."""
    model = bench.graph.add("Probe_GlobalAttention", model=bench.model[0])[0]
    positive = controlled(bench)
    bench.dump(bench.reno(bench.empty(), model, positive, steps=2, method="zero_order")[0], "free")
    bench.dump(bench.reno(bench.empty(), model, steps=2)[0], "overridden")
    bench.run()
    bench.dump(bench.reno(bench.empty(), model, positive, steps=2)[0], "refused")
    error = bench.host.run(bench.graph).error
    assert "ControlNet" in error and "attention_detached" in error and "zero_order" in error


PLACES = ("closure", "object", "options", "network", "class", "module", "predict_noise", "diffusion")


@pytest.mark.parametrize("method", ["gradient", "zero_order", "best_of_n"])
@pytest.mark.parametrize("kind", PLACES)
def test_caches_of_other_nodes_begin_anew_wherever_they_are_kept(bench, kind, method):
    """Best latents equal a render of best_noise, to the last bit, and the first render is the stock one."""
    bench.model, latent = bench.graph.add("Probe_StepCache", model=bench.model[0], kind=kind), bench.empty()
    found = bench.reno(latent, steps=4, method=method, iterations=4, custom_lr=True, lr=0.5)
    bench.dump(found[0], "tea_best")
    bench.dump(found[1], "tea_initial")
    bench.run()
    bench.dump(bench.advanced(found[2], latent, steps=4)[0], "tea_again")
    bench.run()
    bench.dump(bench.ksampler(latent, steps=4)[0], "tea_stock")
    bench.run()
    assert bench.same("tea_best", "tea_again")
    if kind == "diffusion":  # the others are not fresh in a second stock sampling either
        assert bench.same("tea_initial", "tea_stock")


def test_a_cache_that_cannot_begin_anew_is_refused_by_name(bench):
    bench.model, latent = (
        bench.graph.add("Probe_StepCache", model=bench.model[0], kind="hidden"),
        bench.empty(),
    )
    bench.dump(bench.reno(latent, steps=4, method="zero_order")[0], "refused")
    error = bench.host.run(bench.graph).error
    assert "begin anew" in error and "sampling" in error and "cached" in error


@pytest.mark.parametrize("method", ["best_of_n", "zero_order"])
@pytest.mark.parametrize("sampler_name", ["uni_pc", "uni_pc_bh2"])
def test_samplers_that_write_into_their_sigmas(bench, sampler_name, method):
    latent = bench.empty()
    widgets = {"steps": 3, "sampler_name": sampler_name}
    found = bench.reno(latent, method=method, iterations=4, **widgets)
    bench.dump(found[1], "unipc_initial")
    bench.dump(found[0], "unipc_best")
    bench.dump(bench.ksampler(latent, **widgets)[0], "unipc_stock")
    sigmas = bench.graph.add("Probe_StockSigmas", model=bench.model[0], sampler_name=sampler_name, steps=3)
    again = bench.advanced(found[2], latent, sampler_name=sampler_name, sigmas=sigmas)
    bench.dump(again[0], "unipc_again")
    bench.run()
    assert bench.same("unipc_initial", "unipc_stock")
    assert bench.same("unipc_best", "unipc_again")


@pytest.mark.parametrize("sampler_name", ["uni_pc", "uni_pc_bh2", "deis"])
def test_samplers_without_a_gradient_are_refused_by_name(bench, sampler_name):
    bench.dump(bench.reno(bench.empty(), steps=3, sampler_name=sampler_name)[0], "refused")
    error = bench.host.run(bench.graph).error
    assert repr(sampler_name) in error and "zero_order" in error


def searched_mini_world(new_graph, sampler_names, steps=3):
    """The mini world, a flow model, searched with each of these samplers."""
    graph = new_graph()
    world = graph.add("LatentCLIP_MiniWorld")
    positive = graph.add("CLIPTextEncode", clip=world[1], text="a red star")[0]
    empty = graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)[0]
    reward = graph.add("LatentCLIP_TextReward", latent_clip=world[3], text="a red star", weight=1.0)[0]
    for name in sampler_names:
        found = graph.add(
            "LatentCLIP_ReNO", model=world[0], positive=positive, negative=positive, latent_image=empty,
            reward=reward, **{**STATIC, "iterations": 2}, seed=5, cfg=1.0, scheduler="simple", denoise=1.0,
            steps=steps, sampler_name=name,
        )  # fmt: skip
        graph.add("Probe_DumpLatent", latent=found[0], name=f"flow_{name}")
    return graph


def test_the_error_names_only_samplers_that_pass_a_gradient_with_this_model(host, new_graph):
    error = host.run(searched_mini_world(new_graph, ["euler_ancestral"])).error
    names = error.split("Use one of ")[1].split(". ")[0].split(", ")
    assert "euler" in names and "euler_ancestral" not in names
    host.run(searched_mini_world(new_graph, names)).require_ok()
