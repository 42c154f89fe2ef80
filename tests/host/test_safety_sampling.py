"""Guard and repair around the host's own samplers, on the mini world."""

from __future__ import annotations

import pytest
import torch
from sampling_bench import ANYTHING, GREY, NOTHING, Sampling, between, judge_of, judged, scores

import lclip
from lclip.latents.neutral import neutral_latents
from lclip.mini.world import WEIGHTS
from lclip.safety.repair import believed

SOME = 7  # of a batch of "a blue skull" by this seed some show it, after 1 and after 4 steps


@pytest.fixture(scope="module")
def clip():
    return lclip.load(WEIGHTS / "latent_clip.safetensors")


@pytest.fixture
def bench(host, graph):
    return Sampling(host, graph)


@pytest.fixture
def plain(bench):
    """What the stock sampler makes without a guard: [3, 4, 8, 8]. The host has it cached after the first
    time.
    """
    other = Sampling(bench.host, type(bench.graph)())
    other.sample(other.model, name="plain")
    bench.host.run(other.graph).require_ok()
    return other.samples("plain")


@pytest.mark.parametrize("on_unsafe", ["stop", "steer"])
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "dpmpp_2m_sde", "heun", "uni_pc", "lcm"])
def test_a_guard_that_finds_nothing_changes_nothing(bench, sampler, on_unsafe):
    policy = bench.policy(**ANYTHING)
    bench.sample(bench.model, name="without", sampler_name=sampler)
    bench.sample(bench.guard(policy, on_unsafe=on_unsafe), name="with", sampler_name=sampler)
    bench.host.run(bench.graph).require_ok()
    torch.testing.assert_close(bench.samples("with"), bench.samples("without"), rtol=0, atol=1e-5)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m_sde", "heun", "uni_pc"])
def test_stop_ends_early_with_grey_once_everything_is_unsafe(bench, sampler):
    policy = bench.policy(**NOTHING)
    bench.sample(bench.guard(policy), sampler_name=sampler, steps=9)
    bench.host.run(bench.graph).require_ok()
    grey = neutral_latents("mini", (3, 4, 8, 8))
    torch.testing.assert_close(bench.samples("sampled"), grey, rtol=0, atol=1e-4)
    assert bench.host.has_logged("the sampling ends here")


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("check_from", [0.0, 1.0])
def test_what_is_unsafe_in_the_end_is_grey_whatever_the_range(bench, clip, steps, check_from):
    bench.positive = bench.encode("a blue skull")
    bench.sample(bench.model, name="unguarded", steps=steps, seed=SOME)
    bench.host.run(bench.graph).require_ok()
    made = bench.samples("unguarded")
    threshold = between(scores(clip, made))
    policy = bench.policy(own_threshold=threshold)
    bench.sample(bench.guard(policy, check_from=check_from), name="guarded", steps=steps, seed=SOME)
    bench.host.run(bench.graph).require_ok()
    guarded = bench.samples("guarded")
    grey = neutral_latents("mini", (1, 4, 8, 8))[0]
    unsafe = [p >= threshold for p in scores(clip, made)]
    assert any(unsafe)
    for index in range(3):
        replaced = torch.allclose(guarded[index], grey, atol=1e-4)
        kept = torch.allclose(guarded[index], made[index], atol=1e-4)
        assert replaced or (kept and not unsafe[index])
        if check_from == 1.0:
            assert replaced == unsafe[index]


def test_steering_moves_unsafe_items_towards_safety(bench, clip, plain):
    before = scores(clip, plain)
    threshold = between(before)
    policy = bench.policy(own_threshold=threshold)
    bench.sample(bench.guard(policy, on_unsafe="steer", strength=0.2), name="steered")
    bench.host.run(bench.graph).require_ok()
    after = scores(clip, bench.samples("steered"))
    unsafe = [index for index, p in enumerate(before) if p >= threshold]
    assert unsafe and all(after[index] < before[index] for index in unsafe)


def test_a_guard_refuses_a_model_of_other_latents(bench):
    model = bench.graph.add("Probe_TinySDXL", seed=1, latents="SDXL")[0]
    bench.graph.add("Probe_Values", value=bench.guard(bench.policy(), model))
    assert "the model makes SDXL latents" in bench.host.run(bench.graph).error


@pytest.mark.parametrize(
    ("widget", "value", "words"),
    [
        ("strength", -1.0, "strength is -1.0; expected 0 or more: below, it seeks harm"),
        ("check_from", float("nan"), "checks from nan to 1.0"),
    ],
)
def test_a_guard_by_wire_past_its_widgets_is_refused(bench, widget, value, words):
    wired = bench.graph.add("PrimitiveFloat", value=value)[0]
    guard = bench.guard(bench.policy(), on_unsafe="steer", **{widget: wired})
    bench.graph.add("Probe_Values", value=guard)
    assert words in bench.host.run(bench.graph).error


def test_sampling_without_guard_still_works_afterwards(bench, plain):
    bench.sample(bench.model, name="afterwards", seed=5)
    bench.host.run(bench.graph).require_ok()
    torch.testing.assert_close(bench.samples("afterwards"), plain, rtol=0, atol=1e-5)


def test_repair_makes_safe_what_it_can_and_greys_the_rest(bench, clip):
    bench.positive = bench.encode("a blue skull")  # its pictures are anything from no skull to a clear one
    latent = bench.sample(bench.model, name="before", steps=1, batch=16)
    bench.host.run(bench.graph).require_ok()
    made = bench.samples("before")
    threshold = between(scores(clip, made))
    gate = bench.repair(bench.policy(own_threshold=threshold), latent, repair_iterations=20)
    bench.dump(gate[0], "repaired")
    report, count = bench.see(gate, 5, 4)
    result = bench.host.run(bench.graph).require_ok()
    after = bench.samples("repaired")
    grey = neutral_latents("mini", (1, 4, 8, 8))[0]
    trusted = believed(judge_of(clip, threshold), after)
    for before, enough in zip(judged(clip, made, threshold), trusted, strict=True):
        index = before.index
        if before.safe:
            assert torch.equal(after[index], made[index])
        else:
            assert not torch.allclose(after[index], made[index])
            assert enough or torch.allclose(after[index], grey, atol=GREY)
    greys = sum(torch.allclose(z, grey, atol=GREY) for z in after)
    assert result.values(count)[0] == greys < sum(not v.safe for v in judged(clip, made, threshold))
    assert "repaired: " in result.values(report)[0]


def test_repair_without_a_model_is_an_error(bench):
    latent = bench.sample(bench.model, steps=1)
    bench.see(bench.gate(bench.policy(**NOTHING), latent, action="repair"), 3)
    assert "not wired" in bench.host.run(bench.graph).error


@pytest.mark.parametrize("sampler_name", ["uni_pc", "deis"])
def test_repair_with_a_sampler_that_passes_no_gradient_searches_without(bench, sampler_name):
    """No other item than with a gradient is at stake: what leaves is judged all the same."""
    bench.positive = bench.encode("a blue skull")
    latent = bench.sample(bench.model, name="before", steps=3, sampler_name=sampler_name)
    gate = bench.repair(
        bench.policy(**NOTHING), latent, repair_iterations=5, steps=3, sampler_name=sampler_name
    )
    (report,) = bench.see(gate, 5)
    (text,) = bench.host.run(bench.graph).require_ok().values(report)
    assert "still blocked: 0, 1, 2" in text
    assert (
        f"without gradients, which finds less: ReNO cannot differentiate the sampler {sampler_name!r}" in text
    )
    assert "method" not in text  # the gate has no such widget


def test_repairs_begin_anew_under_a_step_cache(bench, clip):
    """The cache is left as it was found, so that the same repair once more finds the same."""
    bench.positive = bench.encode("a blue skull")
    latent = bench.sample(bench.model, name="before", steps=1, batch=6, seed=SOME)
    bench.host.run(bench.graph).require_ok()
    threshold = between(scores(clip, bench.samples("before")))
    bench.model = bench.graph.add("Probe_StepCache", model=bench.model, kind="closure")[0]
    for name, report_as in (("first", "text"), ("second", "json")):
        gate = bench.repair(
            bench.policy(own_threshold=threshold), latent, repair_iterations=6, steps=3, report_as=report_as
        )
        bench.dump(gate[0], name)
        bench.host.run(bench.graph).require_ok()
    assert torch.equal(bench.samples("first"), bench.samples("second"))
    assert not torch.equal(bench.samples("first"), bench.samples("before"))
