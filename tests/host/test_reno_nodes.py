"""Noise search inside the host's own sampling, against the host's own nodes."""

from __future__ import annotations

import threading
import time

import numpy
import pytest
import torch
from agreement import DRIFT, near, same
from reno_bench import STATIC, Bench


@pytest.fixture
def bench(host, graph, sdxl_clip):
    return Bench(host, graph, sdxl_clip)


@pytest.mark.parametrize(
    ("steps", "cfg", "denoise", "batch", "mask", "extra"),
    [
        (1, 1.0, 1.0, 1, False, ""),
        (2, 1.0, 1.0, 1, False, ""),
        (4, 3.0, 1.0, 1, False, ""),
        (1, 3.0, 1.0, 2, False, ""),
        (2, 1.0, 0.6, 1, False, ""),
        (2, 1.0, 0.7, 1, True, ""),
        (1, 1.0, 1.0, 2, False, "lora"),
        (2, 2.0, 1.0, 1, False, "controlnet"),
    ],
)
def test_the_first_render_equals_the_stock_ksampler_bit_for_bit(
    bench, steps, cfg, denoise, batch, mask, extra
):
    model, positive = bench.model[0], bench.positive
    if extra == "lora":
        model = bench.graph.add("Probe_LoRA", model=model, seed=3, strength=1.0)[0]
    if extra == "controlnet":
        control = bench.graph.add("Probe_TinyControlNet", seed=4)
        hint = bench.graph.add("EmptyImage", width=96, height=96, batch_size=1, color=0x3366CC)
        positive = bench.graph.add(
            "ControlNetApplyAdvanced", positive=positive, negative=bench.negative, control_net=control[0],
            image=hint[0], strength=1.0, start_percent=0.0, end_percent=1.0,
        )[0]  # fmt: skip
    latent = bench.picture(batch, mask) if denoise < 1 else bench.empty(batch)
    widgets = {"steps": steps, "cfg": cfg, "denoise": denoise}
    before = bench.ksampler(latent, model, positive, **widgets)
    found = bench.reno(latent, model, positive, **widgets, iterations=3)
    for node, output, name in ((before, 0, "stock"), (found, 1, "initial"), (found, 0, "best")):
        bench.dump(node[output], name)
    first = bench.graph.add("Probe_Values", value=found[3])
    scores = bench.score(found[0])
    if extra == "controlnet" and bench.host.has_dynamic_vram:
        error = bench.host.run(bench.graph).error
        assert "ControlNet" in error and "--disable-dynamic-vram" in error
        return
    result = bench.run()
    assert bench.same("initial", "stock")
    assert sorted(bench.dumped("best")) == sorted(bench.dumped("stock"))
    near(bench.host, torch.tensor(result.values(first)), torch.tensor(result.values(scores)), 1e-5, 1e-5)
    assert len(result.values(first)) == batch
    assert not torch.equal(bench.samples("best"), bench.samples("stock")), "the search found nothing better"


@pytest.mark.parametrize(
    ("sampler_name", "steps", "cfg"),
    [("euler", 1, 1.0), ("euler", 3, 3.0), ("dpmpp_2m", 4, 2.0), ("lcm", 2, 1.0)],
)
def test_the_gradient_agrees_with_finite_differences(bench, sampler_name, steps, cfg):
    """The first step of the search shows its gradient; the reward of perturbed noise comes from stock
    nodes."""
    rate = 2.0
    latent, reward = bench.empty(size=64), bench.reward()
    plain = {
        "sampler_name": sampler_name,
        "steps": steps,
        "cfg": cfg,
        "regularization": 0.0,
        "grad_clip": 100.0,
    }
    for name, iterations in (("start", 0), ("moved", 2)):
        found = bench.reno(latent, reward=reward, iterations=iterations, custom_lr=True, lr=rate, **plain)
        bench.graph.add("Probe_DumpNoise", noise=found[2], latent=latent, name=name)
    bench.run()
    start, moved = (torch.from_numpy(numpy.load(bench.host.output / f"{n}.npy")) for n in ("start", "moved"))
    gradient = (moved - start) / (1.9 * rate)  # the first Nesterov step is (1 + momentum) lr g
    assert gradient.abs().max() > 0
    reach, probes = 0.003, []
    for number in range(4):
        direction = torch.randn(start.shape, generator=torch.Generator().manual_seed(number))
        direction = direction + 20 * gradient / gradient.norm()  # so that the slope is not nearly zero
        for sign in (1, -1):
            name = f"noise_{sampler_name}{steps}_{number}{sign}"
            numpy.save(bench.host.input / f"{name}.npy", (start + sign * reach * direction).numpy())
            render = bench.advanced(name, latent, sampler_name, steps, cfg)
            probes.append((direction, bench.score(render[0], reward)))
    result = bench.run()
    for (direction, ahead), (_, behind) in zip(probes[::2], probes[1::2], strict=True):
        difference = (result.values(ahead)[0] - result.values(behind)[0]) / (2 * reach)
        slope = float((gradient.double() * direction.double()).sum())
        assert slope == pytest.approx(difference, rel=1e-2)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_best_noise_reproduces_the_best_latents_in_a_stock_node(bench, steps):
    latent = bench.empty(2)
    found = bench.reno(latent, steps=steps)
    again = bench.advanced(found[2], latent, steps=steps)
    bench.dump(found[0], "best")
    bench.dump(again[0], "again")
    bench.run()
    assert torch.equal(bench.samples("best"), bench.samples("again"))


def test_best_noise_refuses_another_latent_in_words(bench):
    found = bench.reno(bench.empty(), iterations=1)
    bench.graph.add("Probe_DumpNoise", noise=found[2], latent=bench.empty(2), name="other")
    assert "has shape [2, 4, 12, 12]" in bench.host.run(bench.graph).error


@pytest.mark.parametrize("node", ["SamplerCustom", "SamplerCustomAdvanced"])
def test_the_sampler_runs_in_stock_nodes_and_agrees_with_the_one_node_version(bench, node):
    latent, reward = bench.empty(2), bench.reward()
    sampler = bench.graph.add("LatentCLIP_ReNOSampler", reward=reward, sampler_name="euler", **STATIC)
    sigmas = bench.graph.add("BasicScheduler", model=bench.model[0], scheduler="normal", steps=1, denoise=1.0)
    if node == "SamplerCustom":
        render = bench.graph.add(
            node, model=bench.model[0], add_noise=True, noise_seed=5, cfg=1.0, positive=bench.positive,
            negative=bench.negative, sampler=sampler[0], sigmas=sigmas[0], latent_image=latent,
        )  # fmt: skip
    else:
        noise = bench.graph.add("RandomNoise", noise_seed=5)
        guider = bench.graph.add("BasicGuider", model=bench.model[0], conditioning=bench.positive)
        render = bench.graph.add(
            node, noise=noise[0], guider=guider[0], sampler=sampler[0], sigmas=sigmas[0], latent_image=latent
        )
    one_node = bench.reno(latent, reward=reward)
    for source, name in ((render[0], "custom"), (render[1], "denoised"), (one_node[0], "one_node")):
        bench.dump(source, name)
    bench.run()
    assert bench.same("custom", "one_node", DRIFT)
    torch.testing.assert_close(bench.samples("denoised"), bench.samples("custom"))


def test_stock_sampling_is_unchanged_afterwards_also_with_a_lora_in_between(bench):
    """Renders before, between and after searches, each by a fresh seed of the cache key, are
    bit-identical."""
    latent = bench.empty()
    lora = bench.graph.add("Probe_LoRA", model=bench.model[0], seed=3, strength=0.7)[0]
    bench.dump(bench.ksampler(latent)[0], "plain0")
    bench.dump(bench.ksampler(latent, lora)[0], "lora0")
    bench.run()
    for number, model in enumerate((bench.model[0], lora, bench.model[0]), start=1):
        found = bench.reno(latent, model, seed=50 + number)
        bench.dump(found[0], f"found{number}")
        broken = bench.graph.add("Probe_BrokenWeights", model=model, after=found[0])
        names = bench.graph.add("Probe_Values", value=broken[0])
        assert bench.run().values(names) == [""]
        # The denoise value differs in no bit of the schedule, but makes the host sample again.
        again = {"denoise": 1.0 - 1e-5 * number}
        bench.dump(bench.ksampler(latent, **again)[0], f"plain{number}")
        bench.dump(bench.ksampler(latent, lora, **again)[0], f"lora{number}")
        bench.run()
        assert torch.equal(bench.samples(f"plain{number}"), bench.samples("plain0"))
        assert torch.equal(bench.samples(f"lora{number}"), bench.samples("lora0"))
    assert not torch.equal(bench.samples("plain0"), bench.samples("lora0"))


def test_unloading_models_after_a_search_leaves_no_disguised_weights(bench):
    """The trap: weights that were moved outside of inference mode break stock sampling later."""
    latent = bench.empty()
    bench.dump(bench.ksampler(latent)[0], "before")
    bench.dump(bench.reno(latent, seed=71)[0], "found")
    bench.run()
    bench.host.post("/free", {"unload_models": True})
    time.sleep(1)
    bench.dump(bench.ksampler(latent, denoise=1.0 - 2e-5)[0], "after")
    found = bench.reno(latent, seed=72)
    broken = bench.graph.add("Probe_BrokenWeights", model=bench.model[0], after=found[0])
    names = bench.graph.add("Probe_Values", value=broken[0])
    assert bench.run().values(names) == [""]
    assert torch.equal(bench.samples("before"), bench.samples("after"))


def test_an_interrupt_ends_the_search_at_once_and_leaves_nothing_behind(bench):
    latent = bench.empty()
    bench.dump(bench.ksampler(latent)[0], "before")
    bench.run()
    interrupting = bench.graph.add("Probe_Interrupt", model=bench.model[0], call=3)
    found = bench.reno(latent, interrupting[0], iterations=500)
    bench.dump(found[0], "never")
    result = bench.host.run(bench.graph)
    assert "execution_interrupted" in result.messages
    after = Bench(bench.host, type(bench.graph)(), "tiny_sdxl.safetensors")
    latent = after.empty()
    after.dump(after.ksampler(latent, denoise=1.0 - 3e-5)[0], "after")
    again = after.reno(latent, seed=73)
    broken = after.graph.add("Probe_BrokenWeights", model=after.model[0], after=again[0])
    names = after.graph.add("Probe_Values", value=broken[0])
    assert after.run().values(names) == [""]
    assert torch.equal(bench.samples("before"), bench.samples("after"))


def test_the_cancel_button_ends_a_search(bench):
    found = bench.reno(bench.empty(), iterations=10000, seed=74)
    bench.dump(found[0], "cancelled")
    threading.Timer(4, lambda: bench.host.post("/interrupt", {})).start()
    result = bench.host.run(bench.graph, timeout=60)
    assert "execution_interrupted" in result.messages


@pytest.mark.parametrize("cfg", [1.0, 2.0])
def test_checkpointing_changes_nothing_but_memory(bench, cfg):
    latent, reward = bench.empty(2), bench.reward()
    for mode in ("on", "off"):
        found = bench.reno(latent, reward=reward, checkpointing=mode, steps=2, cfg=cfg)
        bench.dump(found[0], f"checkpointing_{mode}")
    bench.run()
    near(bench.host, bench.samples("checkpointing_on"), bench.samples("checkpointing_off"), 1e-4, 1e-3)


def test_a_batch_that_does_not_fit_is_searched_item_by_item(bench):
    """What the retry finds is what each item's own search finds."""
    latent, reward = bench.empty(2), bench.reward()
    tight = bench.graph.add("Probe_RunsOutOfMemory", model=bench.model[0])
    bench.dump(bench.reno(latent, reward=reward)[0], "roomy")
    found = bench.reno(latent, tight[0], reward=reward)
    bench.dump(found[0], "tight")
    curve = bench.graph.add("Probe_DumpTensor", tensor=found[4], name="tight_curve")
    result = bench.run()
    assert str(curve) in result.executed
    near(bench.host, bench.samples("tight"), bench.samples("roomy"), 1e-4, 1e-3)
    assert bench.host.has_logged("one item at a time")


@pytest.mark.parametrize("method", ["gradient", "zero_order"])
def test_a_batch_equals_its_items_on_their_own(bench, method):
    """batch_index gives each item the noise that it has in the batch, the search's own draws included."""
    batch, reward = bench.picture(2), bench.reward()
    widgets = {"denoise": 0.8, "steps": 2, "method": method, "candidates": 2}
    bench.dump(bench.reno(batch, reward=reward, **widgets)[0], "both")
    for item in range(2):
        alone = bench.graph.add("LatentFromBatch", samples=batch, batch_index=item, length=1)
        bench.dump(bench.reno(alone[0], reward=reward, **widgets)[0], f"item{item}")
    bench.run()
    for item in range(2):
        single = bench.samples(f"item{item}")
        near(bench.host, bench.samples("both")[item : item + 1], single, 1e-4, 1e-3)


@pytest.mark.parametrize("method", ["zero_order", "best_of_n"])
def test_gradient_free_methods_take_any_sampler(bench, method):
    found = bench.reno(bench.empty(2), sampler_name="dpm_fast", steps=3, method=method, iterations=6)
    initial, best = bench.score(found[1]), bench.score(found[0])
    result = bench.run()
    assert all(b >= a for a, b in zip(result.values(initial), result.values(best), strict=True))
    assert result.values(best) != result.values(initial)


def test_samplers_without_a_gradient_are_refused_with_what_to_do(bench):
    bench.dump(bench.reno(bench.empty(), sampler_name="dpm_fast")[0], "refused")
    error = bench.host.run(bench.graph).error
    assert "dpm_fast" in error and "euler" in error and "zero_order" in error


@pytest.mark.parametrize("latents", ["SD1.5", "FLUX"])
@pytest.mark.parametrize("kind", ["reno", "guidance"])
def test_models_of_another_latent_space_are_refused_by_name(bench, latents, kind):
    model = bench.graph.add("Probe_TinySDXL", seed=1, latents=latents)
    if kind == "reno":
        bench.dump(bench.reno(bench.empty(), model[0])[0], "refused")
    else:
        guided = guidance(bench, model=model[0])
        bench.dump(bench.ksampler(bench.empty(), guided)[0], "refused")
    error = bench.host.run(bench.graph).error
    assert "reads SDXL latents" in error and f"makes {latents} latents" in error


def test_a_split_schedule_is_refused(bench):
    sampler = bench.graph.add("LatentCLIP_ReNOSampler", reward=bench.reward(), sampler_name="euler", **STATIC)
    sigmas = bench.graph.add("BasicScheduler", model=bench.model[0], scheduler="normal", steps=4, denoise=1.0)
    split = bench.graph.add("SplitSigmas", sigmas=sigmas[0], step=2)
    render = bench.graph.add(
        "SamplerCustom", model=bench.model[0], add_noise=True, noise_seed=5, cfg=1.0, positive=bench.positive,
        negative=bench.negative, sampler=sampler[0], sigmas=split[0], latent_image=bench.empty(),
    )  # fmt: skip
    bench.dump(render[0], "refused")
    assert "whole schedule" in bench.host.run(bench.graph).error


def test_no_iterations_is_the_stock_render(bench):
    latent = bench.empty()
    bench.dump(bench.ksampler(latent)[0], "stock")
    bench.dump(bench.reno(latent, iterations=0)[0], "none")
    bench.run()
    assert torch.equal(bench.samples("stock"), bench.samples("none"))


def test_a_weight_of_zero_is_no_reward(bench):
    bench.dump(bench.reno(bench.empty(), reward=bench.reward(weight=0.0))[0], "refused")
    assert "weight 0" in bench.host.run(bench.graph).error


def test_the_curve_shows_items_parts_and_held_out(bench):
    both = bench.reward("a blue circle", weight=50.0, add_to=bench.reward())
    found = bench.reno(bench.empty(2), reward=both, held_out=bench.reward("a circle"), candidates=3, keep=2)
    lone = bench.reno(bench.empty(2))
    for node, name in ((found, "rich"), (lone, "plain")):
        bench.graph.add("Probe_DumpTensor", tensor=node[4], name=f"curve_{name}")
    bench.run()
    rich, plain = (numpy.load(bench.host.output / f"curve_{name}.npy") for name in ("rich", "plain"))
    assert rich.shape[0] == plain.shape[0] == 1 and rich.shape[2] >= 512
    assert rich.shape[1] > 2.5 * plain.shape[1] - 100  # three panels instead of one
    colours = {tuple(c) for c in (plain.reshape(-1, 3) * 255).round().astype(int)}
    assert {(0, 114, 178), (230, 159, 0)} <= colours  # a line for each of the two items


def guidance(bench, strength=0.1, model=None, reward=None, **widgets):
    return bench.graph.add(
        "LatentCLIP_Guidance", model=model or bench.model[0], reward=reward or bench.reward(),
        **{"strength": strength, "start": 0.0, "end": 1.0, **widgets},
    )[0]  # fmt: skip


@pytest.mark.parametrize("sampler_name", ["euler", "dpmpp_2m", "res_multistep", "uni_pc", "lcm"])
def test_guidance_raises_the_reward_with_any_sampler(bench, sampler_name):
    latent, reward = bench.empty(2), bench.reward()
    scores = []
    for strength in (0.0, 0.1, -0.1):
        steered = guidance(bench, strength, reward=reward)
        scores.append(
            bench.score(bench.ksampler(latent, steered, steps=6, sampler_name=sampler_name)[0], reward)
        )
    result = bench.run()
    plain, towards, away = (torch.tensor(result.values(score)) for score in scores)
    assert (towards > plain).all() and (away < plain).all()


def test_guidance_without_strength_or_outside_its_part_is_the_stock_render(bench):
    latent = bench.empty()
    off = guidance(bench, 0.0)
    bench.dump(bench.ksampler(latent, steps=3)[0], "stock")
    bench.dump(bench.ksampler(latent, off, steps=3)[0], "off")
    early = guidance(bench, 0.1, start=0.0, end=0.4)
    bench.dump(bench.ksampler(latent, early, steps=3)[0], "early")
    bench.dump(bench.ksampler(latent, guidance(bench, 0.1), steps=3)[0], "all")
    bench.run()
    assert torch.equal(bench.samples("stock"), bench.samples("off"))
    assert not torch.equal(bench.samples("early"), bench.samples("stock"))
    assert not torch.equal(bench.samples("early"), bench.samples("all"))


def test_guidance_is_the_same_whatever_the_rewards_weight(bench):
    latent = bench.empty(2)
    for weight in (1.0, 100.0):
        steered = guidance(bench, reward=bench.reward(weight=weight))
        bench.dump(bench.ksampler(latent, steered, steps=3)[0], f"weight{weight}")
    bench.run()
    torch.testing.assert_close(bench.samples("weight1.0"), bench.samples("weight100.0"), rtol=1e-3, atol=1e-2)


def test_guidance_and_search_work_together(bench):
    reward = bench.reward()
    found = bench.reno(bench.empty(), guidance(bench, reward=reward), reward=reward, steps=2)
    stock = bench.ksampler(bench.empty(), guidance(bench, reward=reward), steps=2)
    bench.dump(found[1], "initial")
    bench.dump(stock[0], "stock")
    initial, best = bench.score(found[1], reward), bench.score(found[0], reward)
    result = bench.run()
    assert bench.same("initial", "stock")
    assert result.values(best)[0] > result.values(initial)[0]


def test_image_rewards_resemble_their_reference(bench):
    samples = 6 * torch.randn(3, 4, 12, 12, generator=torch.Generator().manual_seed(4))
    numpy.savez(bench.host.input / "three.npz", samples=samples.numpy())
    three = bench.graph.add("Probe_ReadLatent", name="three")[0]
    one = bench.graph.add("LatentFromBatch", samples=three, batch_index=1, length=1)[0]
    like = bench.graph.add("LatentCLIP_ImageReward", latent_clip=bench.clip[0], reference=one, weight=1.0)
    unlike = bench.graph.add(
        "LatentCLIP_ImageReward", latent_clip=bench.clip[0], reference=one, weight=-2.0, add_to=like[0]
    )
    values = [bench.score(three, reward[0]) for reward in (like, unlike)]
    result = bench.run()
    towards, away = (result.values(value) for value in values)
    assert max(range(3), key=lambda i: towards[i]) == 1
    assert away == pytest.approx([-value for value in towards], abs=1e-5)  # one weight of 1, one of -2


def test_the_mini_world_is_searched_by_the_same_code(host, graph):
    """A flow model, its own latent space, and a text encoder of the pack's own: one step, as SDXL-Turbo."""
    prompt = "a large red circle left of a small blue square"
    world = graph.add("LatentCLIP_MiniWorld")
    positive = graph.add("CLIPTextEncode", clip=world[1], text=prompt)[0]
    empty = graph.add("EmptyLatentImage", width=64, height=64, batch_size=4)[0]
    reward = graph.add("LatentCLIP_TextReward", latent_clip=world[3], text=prompt, weight=1.0)[0]
    common = {
        "model": world[0], "positive": positive, "negative": positive, "latent_image": empty, "seed": 5,
        "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
    }  # fmt: skip
    found = graph.add("LatentCLIP_ReNO", reward=reward, **common, **{**STATIC, "iterations": 20})
    stock = graph.add("KSampler", **common)
    for node, output, name in ((found, 1, "mini_initial"), (stock, 0, "mini_stock")):
        graph.add("Probe_DumpLatent", latent=node[output], name=name)
    scores = []
    for output in (0, 1):
        picked = graph.add("LatentCLIP_Select", latent=found[output], reward=reward, k=1)
        scores.append(graph.add("Probe_Values", value=picked[2]))
    result = host.run(graph).require_ok()
    best, initial = (torch.tensor(result.values(node)) for node in scores)
    assert (best >= initial).all() and (best > initial).any()
    arrays = [numpy.load(host.output / f"{name}.npz")["samples"] for name in ("mini_initial", "mini_stock")]
    assert same(host, *map(torch.from_numpy, arrays))
