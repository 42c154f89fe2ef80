"""Balance Latents says what the library says, and its reward knows each item through every search."""

from __future__ import annotations

import pytest
import torch
from agreement import near
from reno_bench import Bench
from scoring_bench import dumped, read, smooth, write_latents

import lclip
from lclip.mini.world import load_latent_clip

NAMES = ["a red star", "a blue ring", "a green circle"]
NUMBERS = [3, 5, 6, 7, 8, 9, 11, 12]
RACE = {"candidates": 2, "checks": "0.5", "keep": 1.0, "finish": 2, "method": "prune", "strength": 2.0}


@pytest.fixture(scope="module")
def batch(host):
    """Eight latents in the host's input folder, the third of them broken."""
    samples = smooth((8, 4, 8, 8), 33)
    samples[2, 0, 0, 0] = float("nan")
    return write_latents(host, "eight", samples, batch_index=NUMBERS)


def balance(graph, latent=None, **widgets):
    world = graph.add("LatentCLIP_MiniWorld")
    wires = {"latent_clip": world[3], "latent": latent or read(graph, "eight"), "concepts": "\n".join(NAMES)}
    return graph.add("LatentCLIP_Balance", **{**wires, "margin": 0.0, **widgets})


def score(graph, latent, reward):
    """The probe of what a reward gives for every item, and of the indices of the best first."""
    select = graph.add("LatentCLIP_Select", latent=latent, reward=reward, k=8)
    return graph.add("Probe_Values", value=select[2])


@pytest.mark.parametrize("widgets", [{}, {"k": 4, "target": "0.5 | 0.25 | 0.25"}])
def test_it_chooses_and_steers_as_the_library_does(host, graph, batch, widgets):
    node = balance(graph, **widgets)
    for output, name in enumerate(("chosen", "rest")):
        graph.add("Probe_DumpLatent", latent=node[output], name=f"balance_{name}")
    probes = [graph.add("Probe_Values", value=node[output]) for output in (3, 4, 5)]
    scores = score(graph, read(graph, "eight"), node[2])
    result = host.run(graph).require_ok()
    model, target = load_latent_clip(), widgets.get("target")
    aims = None if target is None else [float(part) for part in target.split("|")]
    own = lclip.balance(model, batch, NAMES, aims, k=widgets.get("k"), margin=0.0)
    assert dumped(host, "balance_chosen")["batch_index"].tolist() == [NUMBERS[item] for item in own.chosen]
    assert dumped(host, "balance_rest")["batch_index"].tolist() == [NUMBERS[item] for item in own.rest]
    report, wanted, distance = (result.values(probe) for probe in probes)
    assert report == [own.report()] and wanted == [NAMES[place] for place in own.wanted]
    assert distance[0] == pytest.approx(own.after)
    found = lclip.classify(model, batch, NAMES)[torch.arange(8), torch.tensor(own.wanted)].log() * 0.01
    torch.testing.assert_close(
        torch.tensor(result.values(scores)), found, atol=1e-4, rtol=1e-3, equal_nan=True
    )


def test_a_reward_says_whom_to_prefer_and_goes_on(host, graph, batch):
    world = graph.add("LatentCLIP_MiniWorld")
    text = graph.add("LatentCLIP_TextReward", latent_clip=world[3], text="a star", weight=1.0)
    node = balance(graph, k=3, reward=text[0], weight=2.0)
    indices = graph.add("Probe_DumpLatent", latent=node[0], name="preferred")
    scores = score(graph, read(graph, "eight"), node[2])
    result = host.run(graph).require_ok()
    assert str(indices) in result.executed
    model = load_latent_clip()
    liked = lclip.TextReward(model, "a star")
    own = lclip.balance(model, batch, NAMES, rewards=liked(batch), k=3, margin=0.0)
    assert dumped(host, "preferred")["batch_index"].tolist() == [NUMBERS[item] for item in own.chosen]
    total = liked(batch) + lclip.ConceptReward(model, NAMES, own.wanted, 2.0)(batch)
    torch.testing.assert_close(
        torch.tensor(result.values(scores)), total, atol=1e-4, rtol=1e-3, equal_nan=True
    )


def test_items_that_were_taken_out_find_their_own_concept(host, graph, batch):
    """The rest, by its numbers; a batch of another length, or of other items, is refused in words."""
    node = balance(graph, k=3)
    scores = score(graph, node[1], node[2])
    result = host.run(graph).require_ok()
    model = load_latent_clip()
    own = lclip.balance(model, batch, NAMES, k=3, margin=0.0)
    whole = lclip.ConceptReward(model, NAMES, own.wanted)(batch)
    torch.testing.assert_close(
        torch.tensor(result.values(scores)), whole[list(own.rest)], atol=1e-4, rtol=1e-3, equal_nan=True
    )


@pytest.mark.parametrize(
    ("numbers", "error"), [(None, "got a batch of 3"), ([5, 6, 40], "got a batch with item 40")]
)
def test_other_batches_are_refused_in_words(host, graph, batch, numbers, error):
    more = {} if numbers is None else {"batch_index": numbers}
    write_latents(host, "others", smooth((3, 4, 8, 8), 34), **more)
    score(graph, read(graph, "others"), balance(graph)[2])
    assert error in host.run(graph).error


@pytest.mark.parametrize(
    ("widgets", "error"),
    [
        ({"concepts": "a star"}, "two concepts or more"),
        ({"concepts": "a star\nA  star"}, "one and the same"),
        ({"concepts": "a star | a ring\na red star | a blue star"}, "holds 2 questions"),
        ({"target": "0.5 | 0.6 | 0.1"}, "sum"),
        ({"target": "half"}, "target is 'half'"),
        ({"latent": "one"}, "two or more"),
    ],
)
def test_what_cannot_be_balanced_is_refused_in_words(host, graph, batch, widgets, error):
    if "latent" in widgets:
        write_latents(host, "one", smooth((1, 4, 8, 8), 35))
        widgets = {"latent": read(graph, "one")}
    balance(graph, **widgets)
    assert error in host.run(graph).error


class Steering(Bench):
    """A batch of three, each with a concept of its own, around the tiny SDXL-shaped model."""

    def steering(self, latent, weight=100.0):
        node = self.graph.add(
            "LatentCLIP_Balance", latent_clip=self.clip[0], latent=latent, weight=weight, margin=0.0,
            concepts="a red square | a blue circle", target="0.34 | 0.66",
        )  # fmt: skip
        return node[2]

    def guided(self, reward):
        wires = {"model": self.model[0], "reward": reward, "strength": 0.2, "start": 0.0, "end": 1.0}
        return self.graph.add("LatentCLIP_Guidance", **wires)[0]

    def race(self, latent, model, reward, **widgets):
        stage = {
            "seed": 5,
            "steps": 4,
            "cfg": 1.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
        }
        wires = {"model": model, "positive": self.positive, "negative": self.negative, "latent_image": latent}
        return self.graph.add(
            "LatentCLIP_RaceKSampler", **wires, reward=reward, **{**stage, **RACE, **widgets}
        )

    def item(self, latent, number):
        return self.graph.add("LatentFromBatch", samples=latent, batch_index=number, length=1)[0]


@pytest.fixture
def bench(host, graph, sdxl_clip):
    return Steering(host, graph, sdxl_clip)


@pytest.mark.parametrize("method", ["gradient", "zero_order"])
def test_a_search_of_the_batch_is_that_of_its_items(bench, method):
    """All at once, item by item where memory is short, and items that were taken out."""
    latent = bench.picture(3)
    reward, widgets = bench.steering(latent), {"denoise": 0.8, "steps": 2, "method": method, "candidates": 2}
    bench.dump(bench.reno(latent, reward=reward, **widgets)[0], "steered")
    if method == "gradient":
        tight = bench.graph.add("Probe_RunsOutOfMemory", model=bench.model[0])
        bench.dump(bench.reno(latent, tight[0], reward=reward, **widgets)[0], "steered_tight")
    bench.dump(bench.reno(bench.item(latent, 2), reward=reward, **widgets)[0], "steered2")
    bench.run()
    if method == "gradient":
        near(bench.host, bench.samples("steered_tight"), bench.samples("steered"), 1e-4, 1e-3)
    near(bench.host, bench.samples("steered2"), bench.samples("steered")[2:], 1e-4, 1e-3)


def test_a_race_drops_by_each_items_own_concept(bench):
    latent = bench.picture(3)
    reward = bench.steering(latent)
    node = bench.race(latent, bench.model[0], reward, candidates=4, checks="0.25, 0.5", keep=0.5, finish=1)
    alone = bench.race(
        bench.item(latent, 2), bench.model[0], reward, candidates=4, checks="0.25, 0.5", keep=0.5, finish=1
    )
    bench.dump(node[0], "raced")
    bench.dump(alone[0], "raced2")
    rewards, scores = bench.graph.add("Probe_Values", value=node[2]), bench.score(node[0], reward)
    result = bench.run()
    near(bench.host, bench.samples("raced2"), bench.samples("raced")[2:], 1e-4, 1e-3)
    assert result.values(rewards) == pytest.approx(result.values(scores), abs=1e-3)


def test_guidance_steers_every_item_to_its_own_concept_in_searches_too(bench):
    """A race's first candidates are what the guided KSampler gives; so is a search of one render."""
    latent = bench.picture(3)
    reward = bench.steering(latent)
    guided = bench.guided(reward)
    bench.dump(bench.ksampler(latent, guided, steps=4)[0], "guided")
    bench.dump(bench.ksampler(latent, steps=4)[0], "unguided")
    raced = bench.race(latent, guided, reward)
    seeds = bench.graph.add("Probe_Values", value=raced[3])
    bench.dump(raced[0], "guided_race")
    one = bench.reno(latent, guided, reward=reward, steps=4, method="best_of_n", iterations=1)
    bench.dump(one[1], "guided_search")
    part = bench.reno(bench.item(latent, 1), guided, reward=reward, steps=4, method="best_of_n", iterations=1)
    bench.dump(part[1], "guided_part")
    result = bench.run()
    plain = bench.samples("guided")
    assert float((plain - bench.samples("unguided")).abs().max()) > 0.1
    own = [row for row, seed in enumerate(result.values(seeds)) if seed == 5]
    assert sorted(row % 3 for row in own) == [0, 1, 2]
    for row in own:
        near(bench.host, bench.samples("guided_race")[row], plain[row % 3], 1e-3, 1e-3)
    near(bench.host, bench.samples("guided_search"), plain, 1e-3, 1e-3)
    near(bench.host, bench.samples("guided_part"), plain[1:2], 1e-3, 1e-3)
