"""Races inside the host's own sampling, against the host's own nodes."""

from __future__ import annotations

import numpy
import pytest
import torch
from agreement import near
from reno_bench import Bench
from scoring_bench import read, write_latents

RACE = {
    "candidates": 4, "checks": "0.3, 0.6", "keep": 0.5, "finish": 2, "method": "prune", "strength": 2.0,
}  # fmt: skip
STAGE = {
    "seed": 5, "steps": 5, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
}  # fmt: skip


class Track(Bench):
    def race(self, latent, model=None, positive=None, reward=None, **widgets):
        return self.graph.add(
            "LatentCLIP_RaceKSampler", model=model or self.model[0], positive=positive or self.positive,
            negative=self.negative, latent_image=latent, reward=reward or self.reward(),
            **{**STAGE, **RACE, **widgets},
        )  # fmt: skip

    def values_of(self, result, node, output):
        return result.values(output)


@pytest.fixture
def track(host, graph, sdxl_clip):
    return Track(host, graph, sdxl_clip)


def raced(track, latent, **widgets):
    """Run a race, then KSampler with each winner's seed. -> what both made, rewards, seeds, share saved"""
    node = track.race(latent, **widgets)
    track.dump(node[0], "best")
    shown = [track.graph.add("Probe_Values", value=node[output]) for output in (2, 3, 4, 5)]
    result = track.run()
    rewards, seeds, saved, report = (result.values(each) for each in shown)
    return track.samples("best"), rewards, seeds, saved[0], report[0]


@pytest.mark.parametrize(
    ("sampler_name", "cfg", "latents"),
    [
        ("euler", 1.0, "empty"),
        ("dpmpp_2m", 3.0, "empty"),
        ("heun", 1.0, "empty"),
        ("euler_ancestral", 1.0, "empty"),
        ("dpmpp_2m_sde", 2.0, "empty"),
        ("dpmpp_sde_gpu", 1.0, "empty"),
        ("lcm", 1.0, "empty"),
        ("uni_pc", 1.0, "empty"),
        ("euler_ancestral_cfg_pp", 2.0, "empty"),
        ("res_multistep_cfg_pp", 2.0, "empty"),
        ("euler", 2.0, "mask"),
    ],
)
def test_a_winner_is_what_ksampler_makes_of_its_seed(track, sampler_name, cfg, latents):
    latent = track.empty() if latents == "empty" else track.picture(1, mask=True)
    stage = {"sampler_name": sampler_name, "cfg": cfg, "denoise": 1.0 if latents == "empty" else 0.8}
    best, rewards, seeds, saved, report = raced(track, latent, **stage)
    assert len(best) == 2 and rewards == sorted(rewards)[::-1] and len(set(seeds)) == 2
    assert 0.2 < saved < 0.5 and f"seed {seeds[0]}" in report
    for number, seed in enumerate(seeds):
        track.dump(track.ksampler(latent, **{**STAGE, **stage, "seed": seed})[0], f"alone{number}")
    scores = track.score(track.race(latent, **stage)[0])
    result = track.run()
    for number in range(2):
        near(track.host, best[number : number + 1], track.samples(f"alone{number}"), 1e-4, 1e-2)
    near(track.host, torch.tensor(rewards), torch.tensor(result.values(scores)), 1e-4, 1e-2)


def test_it_is_worth_as_much_as_the_best_of_all(track):
    """Brute force: with nobody dropped the winner is the best of the four KSamplers."""
    latent = track.empty()
    best, rewards, seeds, saved, _ = raced(track, latent, keep=1.0, finish=4)
    assert saved == 0 and len(best) == 4 and seeds.count(5) == 1
    pruned, some, chosen, _, _ = raced(track, latent, finish=1)
    place = seeds.index(chosen[0])
    torch.testing.assert_close(some[0], rewards[place], atol=1e-4, rtol=1e-4)
    near(track.host, pruned, best[place : place + 1], 1e-4, 1e-2)


@pytest.mark.parametrize("sampler_name", ["euler", "dpmpp_2m", "heun", "euler_ancestral", "dpmpp_2m_sde"])
def test_drafts_are_what_ksampler_makes_in_so_few_steps_and_only_the_best_go_on(track, sampler_name):
    """Of the simple scheduler every second noise level of 6 steps is one of 3 steps."""
    latent, stage = track.empty(), {"steps": 6, "scheduler": "simple", "sampler_name": sampler_name}
    _, _, seeds, _, _ = raced(track, latent, keep=1.0, finish=4, **stage)
    drafts, whole = (
        [
            track.score(track.ksampler(latent, **{**STAGE, **stage, "steps": steps, "seed": seed})[0])
            for seed in seeds
        ]
        for steps in (3, 6)
    )
    asked = {"method": "draft", "draft_steps": 3}
    best, rewards, chosen, saved, report = raced(track, latent, **stage, **asked)
    result = track.run()
    told, ends = (
        {seed: result.values(node)[0] for seed, node in zip(seeds, nodes, strict=True)}
        for nodes in (drafts, whole)
    )
    left = sorted(seeds, key=lambda seed: -told[seed])[:2]
    assert chosen == sorted(left, key=lambda seed: -ends[seed])
    near(track.host, torch.tensor(rewards), torch.tensor([ends[seed] for seed in chosen]), 1e-4, 1e-2)
    few, all_of_them = (5, 11) if sampler_name == "heun" else (3, 6)  # heun asks twice a step, but the last
    assert saved == pytest.approx(1 - (4 * few + 2 * all_of_them) / (4 * all_of_them))
    assert "drafts, item 0:" in report
    assert len(best) == 2


def custom(track, sampler, latent, noise, steps=5, cfg=1.0):
    """The stock SamplerCustomAdvanced with this SAMPLER and NOISE."""
    add = track.graph.add
    guider = add("CFGGuider", model=track.model[0], positive=track.positive, negative=track.negative, cfg=cfg)
    sigmas = add("BasicScheduler", model=track.model[0], scheduler="normal", steps=steps, denoise=1.0)
    return add(
        "SamplerCustomAdvanced", noise=noise, guider=guider[0], sampler=sampler, sigmas=sigmas[0],
        latent_image=latent,
    )  # fmt: skip


def sampler_of(track, **widgets):
    race = {**RACE, "sampler_name": "euler", **widgets}
    return track.graph.add("LatentCLIP_Race", reward=track.reward(), **race)[0]


@pytest.mark.parametrize("sampler_name", ["euler", "dpmpp_2m_sde"])
def test_the_noise_of_a_winner_makes_it_again_in_stock_nodes(track, sampler_name):
    latent = track.empty()
    found = track.race(latent, sampler_name=sampler_name, finish=1)
    stock = track.graph.add("KSamplerSelect", sampler_name=sampler_name)
    track.dump(found[0], "best")
    track.dump(custom(track, stock[0], latent, found[1])[0], "again")
    track.run()
    near(track.host, track.samples("best"), track.samples("again"), 1e-4, 1e-2)


def test_every_winner_has_a_noise_of_its_own_and_a_batch_one_for_all(track):
    latent = track.empty(2)
    found = track.race(latent, finish=2)
    stock = track.graph.add("KSamplerSelect", sampler_name="euler")
    track.dump(found[0], "best")
    scores = track.graph.add("Probe_Values", value=found[2])
    again = custom(track, stock[0], latent, found[1])
    judged = track.score(again[0])
    result = track.run()
    assert track.samples("best").shape[0] == 4
    # Two NOISEs, each for the batch of two: the stock node runs twice, one rank after the other.
    near(track.host, torch.tensor(result.values(scores)), torch.tensor(result.values(judged)), 1e-4, 1e-4)


@pytest.mark.parametrize("node", ["SamplerCustom", "SamplerCustomAdvanced"])
def test_the_sampler_in_stock_nodes_gives_what_the_one_node_version_gives(track, node):
    latent = track.empty()
    track.dump(track.race(latent, finish=2)[0], "one_node")
    if node == "SamplerCustomAdvanced":
        noise = track.graph.add("RandomNoise", noise_seed=5)
        made = custom(track, sampler_of(track, finish=2), latent, noise[0])
    else:
        sigmas = track.graph.add(
            "BasicScheduler", model=track.model[0], scheduler="normal", steps=5, denoise=1.0
        )
        made = track.graph.add(
            node, model=track.model[0], add_noise=True, noise_seed=5, cfg=1.0, positive=track.positive,
            negative=track.negative, sampler=sampler_of(track, finish=2), sigmas=sigmas[0],
            latent_image=latent,
        )  # fmt: skip
    track.dump(made[0], "custom")
    track.dump(made[1], "denoised")
    track.run()
    near(track.host, track.samples("custom"), track.samples("one_node"), 1e-4, 1e-2)
    near(track.host, track.samples("denoised"), track.samples("custom"), 1e-4, 1e-2)


def test_each_item_of_a_batch_is_raced_with_its_own_prompt(track):
    """Conditions of one prompt per item stay with their item while the field shrinks."""
    both = track.graph.add("Probe_Conditioning", seed=1, batch=2)[0]
    latent = track.empty(2)
    node = track.race(latent, positive=both, finish=1, keep=0.25)
    track.dump(node[0], "both")
    seeds = track.graph.add("Probe_Values", value=node[3])
    chosen = track.run().values(seeds)
    for item, seed in enumerate(chosen):
        stage = {**STAGE, "seed": seed}
        track.dump(track.ksampler(latent, positive=both, **stage)[0], f"whole{item}")
    track.run()
    for item in range(2):
        near(track.host, track.samples("both")[item], track.samples(f"whole{item}")[item], 1e-4, 1e-2)


def test_what_does_not_fit_into_memory_is_run_in_parts_and_ends_the_same(track):
    latent, reward = track.empty(), track.reward()
    tight = track.graph.add("Probe_RunsOutOfMemory", model=track.model[0], always=True)
    track.dump(track.race(latent, reward=reward)[0], "roomy")
    track.dump(track.race(latent, tight[0], reward=reward)[0], "tight")
    track.run()
    near(track.host, track.samples("tight"), track.samples("roomy"), 1e-4, 1e-2)
    assert track.host.has_logged("do not fit into memory at once")


def test_resampling_needs_a_stochastic_sampler_and_then_gives_as_many_as_are_to_finish(track):
    latent = track.empty()
    track.dump(track.race(latent, sampler_name="euler_ancestral", method="resample", finish=3)[0], "steered")
    track.run()
    assert track.samples("steered").shape[0] == 3 and bool(torch.isfinite(track.samples("steered")).all())
    track.dump(track.race(latent, method="resample")[0], "never")
    assert "draws no noise on the way" in track.host.run(track.graph).error


@pytest.mark.parametrize(
    ("widgets", "error"),
    [
        ({"checks": "early"}, "checks is 'early'"),
        ({"checks": "0.3, 1"}, "above 0 and below 1"),
        ({"finish": 9}, "from 1 to candidates (4)"),
        ({"sampler_name": "dpm_adaptive"}, "chooses its steps by the whole batch"),
        ({"method": "draft", "draft_steps": 5}, "draft_steps is 5, and the schedule has 5; expected fewer"),
    ],
)
def test_what_cannot_be_raced_is_refused_in_words(track, widgets, error):
    track.dump(track.race(track.empty(), **widgets)[0], "never")
    assert error in track.host.run(track.graph).error


@pytest.mark.parametrize(
    ("checks", "steps", "made"),
    [("0.99", 5, 0), ("0.3", 1, 0), ("0.3，0.6", 5, 2), ("0.3；0.6", 5, 2), ("0.3, 0.3", 5, 1)],
)
def test_checks_are_parted_by_commas_of_any_keyboard_and_none_at_all_is_said(track, checks, steps, made):
    report = track.graph.add("Probe_Values", value=track.race(track.empty(), checks=checks, steps=steps)[5])
    (text,) = track.run().values(report)
    assert text.count("after step") == made + 1
    assert ("Caution: no check was made" in text) == (not made)


def test_resampling_in_one_step_asks_for_more_steps_and_not_for_the_sampler_it_has(track):
    wanted = {"sampler_name": "euler_ancestral", "method": "resample", "steps": 1}
    track.dump(track.race(track.empty(), **wanted)[0], "never")
    error = track.host.run(track.graph).error
    assert "more steps are needed" in error and "take a stochastic one" not in error


@pytest.mark.parametrize(("kept", "numbers"), [(2, [4, 7, 9]), (1, [4, 7, 9]), (2, [4, 7])])
def test_fewer_masks_or_numbers_than_items_stay_with_their_items(track, kept, numbers):
    """Mask and number i % 2 are item i's, for every rank anew."""
    masks = numpy.stack([numpy.tri(96, 96, dtype="f"), numpy.ones((96, 96), "f")])
    samples = 6 * torch.randn(3, 4, 12, 12, generator=torch.Generator().manual_seed(9))
    name = f"fewer masks {kept} {len(numbers)}"
    write_latents(track.host, name, samples, noise_mask=masks, batch_index=numbers)
    track.dump(track.race(read(track.graph, name), finish=kept)[0], name)
    track.run()
    found = track.dumped(name)
    assert found["samples"].shape[0] == 3 * kept
    numpy.testing.assert_array_equal(found["noise_mask"], masks[[0, 1, 0] * kept])
    assert found["batch_index"].tolist() == [*numbers, 4][:3] * kept


def test_a_part_of_a_schedule_is_refused(track):
    latent = track.empty()
    sigmas = track.graph.add("BasicScheduler", model=track.model[0], scheduler="normal", steps=4, denoise=1.0)
    first = track.graph.add("SplitSigmas", sigmas=sigmas[0], step=2)
    guider = track.graph.add("BasicGuider", model=track.model[0], conditioning=track.positive)
    noise = track.graph.add("RandomNoise", noise_seed=5)
    made = track.graph.add(
        "SamplerCustomAdvanced", noise=noise[0], guider=guider[0], sampler=sampler_of(track), sigmas=first[0],
        latent_image=latent,
    )  # fmt: skip
    track.dump(made[0], "never")
    assert "expected 0" in track.host.run(track.graph).error


KEPT = ("closure", "object", "options", "network", "class", "module", "predict_noise", "diffusion")


@pytest.mark.parametrize("method", ["prune", "draft"])
@pytest.mark.parametrize("kind", KEPT)
def test_a_step_cache_of_another_pack_changes_nothing_in_a_race(track, kind, method):
    """It compares a batch with the one before, which in a race holds other rows."""
    latent, plain = track.empty(), track.model
    stage = {"steps": 6, "method": method, "draft_steps": 3}
    best, rewards, seeds, _, _ = raced(track, latent, **stage)
    track.model = track.graph.add("Probe_StepCache", model=plain[0], kind=kind)
    found, again, chosen, _, _ = raced(track, latent, **stage)
    assert chosen == seeds and again == pytest.approx(rewards, abs=1e-4)
    near(track.host, found, best, 1e-4, 1e-2)


@pytest.mark.parametrize("kind", ["EasyCache", "LazyCache"])
def test_the_hosts_own_step_caches_are_refused_in_a_race(track, kind):
    """Its winners would not be what KSampler makes of their seeds under that cache."""
    widgets = {"reuse_threshold": 0.2, "start_percent": 0.15, "end_percent": 0.95, "verbose": False}
    track.model = track.graph.add(kind, model=track.model[0], **widgets)
    track.dump(track.race(track.empty())[0], "refused")
    error = track.host.run(track.graph).error
    assert "step cache (EasyCache or LazyCache)" in error and "Take the cache out" in error


def test_a_cache_that_cannot_begin_anew_is_refused_in_a_race(track):
    track.model = track.graph.add("Probe_StepCache", model=track.model[0], kind="hidden")
    track.dump(track.race(track.empty())[0], "refused")
    error = track.host.run(track.graph).error
    assert "begin anew" in error and "sampling" in error and "cached" in error
