"""Races with what a model may carry (LoRA, ControlNet, no gradient), and races that are cancelled."""

from __future__ import annotations

import pytest
import torch
from agreement import near
from test_race_nodes import STAGE, Track, custom, raced, sampler_of

LONG = 10_000  # steps: a race that nobody cancels would not end within the test's time
SECONDS = 120


@pytest.fixture
def track(host, graph, sdxl_clip):
    return Track(host, graph, sdxl_clip)


def controlled(track):
    """The prompt with a ControlNet on it."""
    control = track.graph.add("Probe_TinyControlNet", seed=4)
    hint = track.graph.add("EmptyImage", width=96, height=96, batch_size=1, color=0x3366CC)
    return track.graph.add(
        "ControlNetApplyAdvanced", positive=track.positive, negative=track.negative, control_net=control[0],
        image=hint[0], strength=1.0, start_percent=0.0, end_percent=1.0,
    )[0]  # fmt: skip


def carrying(track, what):
    """-> a MODEL with all that `what` names, and a prompt for it"""
    model = track.model[0]
    if "float8" in what:
        model = track.graph.add("Probe_TinySDXL", seed=1, latents="SDXL", weights="float8")[0]
    if "cut attention" in what:
        model = track.graph.add("Probe_CutAttention", model=model)[0]
    if "lora" in what:
        model = track.graph.add("Probe_LoRA", model=model, seed=3, strength=1.0)[0]
    return {"model": model, "positive": controlled(track) if "controlnet" in what else track.positive}


@pytest.mark.parametrize("method", ["prune", "draft"])
@pytest.mark.parametrize(
    "what", ["lora", "controlnet", "lora, controlnet", "cut attention", "float8", "float8, lora"]
)
def test_a_winner_is_what_ksampler_makes_of_its_seed_whatever_the_model_carries(track, what, method):
    latent, stage = track.empty(), {"cfg": 2.0}
    given, asked = carrying(track, what), {"method": method, "draft_steps": 2}
    best, rewards, seeds, saved, _ = raced(track, latent, **asked, **stage, **given)
    assert len(best) == 2 and saved > 0 and rewards == sorted(rewards)[::-1]
    for number, seed in enumerate(seeds):
        alone = track.ksampler(latent, **{**STAGE, **stage, **given, "seed": seed})
        track.dump(alone[0], f"alone{number}")
    track.dump(track.ksampler(latent, **{**STAGE, **stage, "seed": seeds[0]})[0], "bare")
    track.run()
    for number in range(2):
        near(track.host, best[number : number + 1], track.samples(f"alone{number}"), 1e-4, 1e-2)
    if what != "cut attention":  # which changes nothing but the gradient
        assert (best[:1] - track.samples("bare")).abs().max() > 0.1, "the model carries nothing here"


def check_stock_sampling_is_as_before(track, before):
    """A fresh graph: KSampler gives the same to the last bit, a race runs, and no weight is broken."""
    after = Track(track.host, type(track.graph)(), "tiny_sdxl.safetensors")
    latent = after.empty()
    # The denoise value differs in no bit of the schedule, but makes the host sample again.
    after.dump(after.ksampler(latent, **{**STAGE, "denoise": 1.0 - 3e-5})[0], "after")
    again = after.race(latent, seed=73)
    broken = after.graph.add("Probe_BrokenWeights", model=after.model[0], after=again[0])
    names = after.graph.add("Probe_Values", value=broken[0])
    assert after.run().values(names) == [""]
    assert torch.equal(before, after.samples("after"))


def before_it(track, latent):
    track.dump(track.ksampler(latent, **STAGE)[0], "before")
    track.run()
    return track.samples("before")


@pytest.mark.parametrize(
    ("call", "widgets"),
    [
        (3, {}),
        (2, {"method": "draft"}),
        (6, {"method": "draft"}),
        (3, {"method": "resample", "sampler_name": "euler_ancestral"}),
        (3, {"sampler_name": "dpmpp_2m_sde", "cfg": 2.0}),
    ],
)
def test_cancel_ends_a_race_at_once_and_leaves_nothing_behind(track, call, widgets):
    latent = track.empty()
    before = before_it(track, latent)
    interrupting = track.graph.add("Probe_Interrupt", model=track.model[0], call=call)
    track.dump(track.race(latent, interrupting[0], steps=LONG, **widgets)[0], "never")
    assert "execution_interrupted" in track.host.run(track.graph, timeout=SECONDS).messages
    check_stock_sampling_is_as_before(track, before)


@pytest.mark.parametrize("method", ["prune", "draft"])
def test_cancel_ends_a_race_in_stock_nodes_and_the_sampler_has_found_nothing(track, method):
    """The same SAMPLER, still in the host's cache, then serves a run that nobody cancels."""
    latent, sampler = track.empty(), sampler_of(track, method=method, finish=1)
    before = before_it(track, latent)
    plain, track.model = track.model, track.graph.add("Probe_Interrupt", model=track.model[0], call=2)
    noise = track.graph.add("RandomNoise", noise_seed=5)
    cancelled = custom(track, sampler, latent, noise[0], steps=LONG)
    track.dump(cancelled[0], "never")
    assert "execution_interrupted" in track.host.run(track.graph, timeout=SECONDS).messages
    for node in (cancelled, str(len(track.graph.nodes))):
        track.graph.nodes.pop(str(node))
    track.model = plain
    track.dump(custom(track, sampler, latent, noise[0])[0], "later")
    track.dump(track.race(latent, method=method, finish=1)[0], "one_node")
    track.run()
    near(track.host, track.samples("later"), track.samples("one_node"), 1e-4, 1e-2)
    check_stock_sampling_is_as_before(track, before)
