"""What choosing, steering and exploring do with bad input, node by node: refused before anything is sampled,
in words that say what, got, expected and how to mend; or what is stated happens, and nothing is lost."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from reno_bench import STATIC
from scoring_bench import read, smooth, write_latents
from test_explore_node import EXPLORE, REPORT, SCORES
from test_explore_node import STAGE as FEW
from test_race_nodes import RACE
from test_slider_node import SLIDER

NAN = float("nan")


class Table:
    """Every node of choosing, in the mini world or around the tiny SDXL-shaped model."""

    def __init__(self, host, graph, clip):
        self.host, self.graph = host, graph
        self.world = graph.add("LatentCLIP_MiniWorld")
        self.clip = self.world[3]
        self.sdxl_clip = graph.add("LatentCLIP_Load", file=clip, dtype="float32")[0]
        self.sdxl = graph.add("Probe_TinySDXL", seed=1, latents="SDXL")[0]
        self.sdxl_prompt = graph.add("Probe_Conditioning", seed=1, batch=1)[0]

    def latents(self, name, samples, **more):
        write_latents(self.host, f"bad {name}", samples, **more)
        return read(self.graph, f"bad {name}")

    def good(self, count=3):
        return self.latents(f"good {count}", smooth((count, 4, 8, 8)))

    def masked(self):
        """A latent of which the mask lets a sampler change nothing: all that it makes is the same."""
        return self.latents("masked", smooth((1, 4, 8, 8)), noise_mask=numpy.zeros((1, 64, 64), "f"))

    def picture(self, samples):
        name = f"picture {'x'.join(map(str, samples.shape))} {bool(torch.isfinite(samples).all())}"
        numpy.savez(self.host.input / f"{name}.npz", samples=samples.numpy())
        return self.graph.add("Probe_Image", name=name)[0]

    def number(self, value):
        """By wire, past the widget's own limits."""
        kind = "PrimitiveFloat" if isinstance(value, float) else "PrimitiveInt"
        return self.graph.add(kind, value=value)[0]

    def text_reward(self, clip=None, **widgets):
        wires = {"latent_clip": clip or self.clip, "text": "a red star", "weight": 1.0, **widgets}
        return self.graph.add("LatentCLIP_TextReward", **wires)[0]

    def image_reward(self, **wires):
        return self.graph.add("LatentCLIP_ImageReward", latent_clip=self.clip, weight=1.0, **wires)[0]

    def variety(self):
        return self.graph.add("LatentCLIP_VarietyReward", latent_clip=self.clip, weight=1.0)[0]

    def select(self, latent=None, reward=None, **widgets):
        wires = {"latent": latent or self.good(), "reward": reward or self.text_reward(), "k": 2}
        return self.graph.add("LatentCLIP_Select", **{**wires, **widgets})

    def concepts(self, kind, latent=None, **widgets):
        wires = {"latent": latent or self.good(), "latent_clip": self.clip, "margin": 0.0}
        return self.graph.add(kind, **{**wires, "concepts": "a red star\na blue ring", **widgets})

    def shares(self, *args, **widgets):
        return self.concepts("LatentCLIP_Shares", *args, **widgets)

    def balance(self, *args, **widgets):
        return self.concepts("LatentCLIP_Balance", *args, **widgets)

    def stage(self, sdxl=False, **widgets):
        prompt = (
            self.sdxl_prompt
            if sdxl
            else self.graph.add("CLIPTextEncode", clip=self.world[1], text="a red star")[0]
        )
        empty = self.graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)[0]
        wires = {"model": self.sdxl if sdxl else self.world[0], "positive": prompt, "negative": prompt}
        return {**FEW, "scheduler": "simple", "latent_image": empty, **wires, **widgets}

    def race(self, sdxl=False, **widgets):
        reward = self.text_reward(self.sdxl_clip if sdxl else self.clip)
        return self.graph.add(
            "LatentCLIP_RaceKSampler", **{**self.stage(sdxl), **RACE, "reward": reward, **widgets}
        )

    def reno(self, sdxl=False, **widgets):
        search = {**STATIC, "method": "best_of_n", "iterations": 3, "stop_at_target": True, "target": 9.0}
        reward = self.text_reward(self.sdxl_clip if sdxl else self.clip)
        return self.graph.add(
            "LatentCLIP_ReNO", **{**self.stage(sdxl), **search, "reward": reward, **widgets}
        )

    def slider(self, sdxl=False, **widgets):
        ends = {} if sdxl else {"less": "a small red star", "more": "a large red star"}
        wires = {"latent_clip": self.sdxl_clip if sdxl else self.clip, **ends}
        return self.graph.add(
            "LatentCLIP_Slider",
            **{**self.stage(sdxl, steps=1), **SLIDER, "iterations": 2, **wires, **widgets},
        )

    def guided_slider(self, sdxl=False, **widgets):
        return self.slider(sdxl, **{"method": "guidance", "steps": 3, **widgets})

    def explore(self, sdxl=False, **widgets):
        wires = {"latent_clip": self.sdxl_clip if sdxl else self.clip, "cells": 2, "other_seeds": "6"}
        return self.graph.add(
            "LatentCLIP_Explore",
            **{**self.stage(sdxl), **EXPLORE, "column": 0, "row": 0, **wires, **widgets},
        )

    def sampler(self, kind="Race", sdxl=False):
        own = RACE if kind == "Race" else {**STATIC, "method": "best_of_n", "iterations": 2}
        reward = self.text_reward(self.sdxl_clip if sdxl else self.clip)
        return self.graph.add(f"LatentCLIP_{kind}", reward=reward, sampler_name="euler", **own)[0]

    def custom(self, kind, sdxl=False, latent_image=None, model=None, **_):
        stage = self.stage(sdxl)
        model = model or stage["model"]
        guider = self.graph.add(
            "CFGGuider", model=model, positive=stage["positive"], negative=stage["negative"], cfg=1.0
        )
        sigmas = self.graph.add("BasicScheduler", model=model, scheduler="simple", steps=2, denoise=1.0)
        return self.graph.add(
            "SamplerCustomAdvanced", noise=self.graph.add("RandomNoise", noise_seed=1)[0], guider=guider[0],
            sampler=self.sampler(kind, sdxl), sigmas=sigmas[0],
            latent_image=latent_image or stage["latent_image"],
        )  # fmt: skip

    def result(self, latent):
        return self.graph.add("LatentCLIP_SearchResult", sampler=self.sampler(), latent=latent)

    def refused(self, node):
        """The error's text, with something that asks for the node's first output."""
        self.graph.add("Probe_Values", value=node[0] if not isinstance(node, list) else node)
        return self.host.run(self.graph)

    def shown(self, *outputs):
        probes = [self.graph.add("Probe_Values", value=output) for output in outputs]
        result = self.host.run(self.graph).require_ok()
        return [result.values(probe) for probe in probes]


@pytest.fixture
def table(host, graph, sdxl_clip):
    return Table(host, graph, sdxl_clip)


READERS: dict[str, Callable[[Table, Any], Any]] = {
    "Select": lambda t, z: t.select(z),
    "Select by VarietyReward": lambda t, z: t.select(z, t.variety()),
    "Shares": lambda t, z: t.shares(z),
    "Shares, examples": lambda t, z: t.shares(examples=z, labels="a red star\na blue ring"),
    "Balance": lambda t, z: t.balance(z),
    "ImageReward": lambda t, z: t.image_reward(reference=z),
    "Slider, less": lambda t, z: t.slider(less_latents=z),
    "Slider, more": lambda t, z: t.slider(more_latents=z),
}
"""What reads a LATENT as it is."""
NAMED = {
    "Shares, examples": "examples: ",
    "ImageReward": "reference: ",
    "Slider, less": "less_latents: ",
    "Slider, more": "more_latents: ",
}
"""Where a node has several LATENT inputs, the error says which."""
SAMPLERS: dict[str, Callable[..., Any]] = {
    "RaceKSampler": lambda t, **w: t.race(True, **w),
    "Race": lambda t, **w: t.custom("Race", True, **w),
    "ReNO best_of_n": lambda t, **w: t.reno(True, **w),
    "ReNOSampler": lambda t, **w: t.custom("ReNOSampler", True, **w),
    "Slider by noise": lambda t, **w: t.slider(True, **w),
    "Slider by guidance": lambda t, **w: t.guided_slider(True, **w),
    "Explore": lambda t, **w: t.explore(True, **w),
}
"""What samples from a latent image."""
LATENTS = {
    "several frames": (torch.ones(1, 4, 3, 8, 8), ("4, 3, 8, 8]", "3 frames", "Latent Cut")),
    "another space": (smooth((2, 16, 8, 8)), ("16 channels", "16, 8, 8]", "with 4", "Load Latent-CLIP")),
    "no items": (torch.zeros(0, 4, 8, 8), ("[0, 4, 8, 8]", "empty")),
    "nothing but NaN": (torch.full((2, 4, 8, 8), NAN), ("NaN or infinit",)),
}  # fmt: skip


@pytest.mark.parametrize("node", READERS)
@pytest.mark.parametrize("kind", LATENTS)
def test_latents_that_cannot_be_read_are_refused(table, node, kind):
    samples, words = LATENTS[kind]
    if (node, kind) == ("Shares, examples", "no items"):
        words = ("2 labels for 0 examples", "expected a line for each")
    error = table.refused(READERS[node](table, table.latents(kind, samples))).error
    assert all(word in error for word in words), error
    assert error.startswith(NAMED.get(node, "")), error


@pytest.mark.parametrize("node", SAMPLERS)
@pytest.mark.parametrize("kind", [*LATENTS, "one cell wide", "another model"])
def test_what_cannot_be_read_is_refused_before_anything_is_sampled(table, node, kind):
    """The model ends the prompt, without an error, when it is asked."""
    model, wires = table.sdxl, {}
    if kind == "another model":
        model = table.graph.add("Probe_TinySDXL", seed=1, latents="SD1.5")[0]
        words = ("reads SDXL latents", "makes SD1.5 latents", "Load Latent-CLIP")
    elif kind == "one cell wide":
        words = ("8x1 cells", "one patch of 2x2", "make the picture larger")
        wires["latent_image"] = table.latents("narrow", torch.zeros(1, 4, 8, 1))
    else:
        samples, words = LATENTS[kind]
        wires["latent_image"] = table.latents(kind, samples)
    model = table.graph.add("Probe_Interrupt", model=model, call=1)[0]
    error = table.refused(SAMPLERS[node](table, model=model, **wires)).error
    assert all(word in error for word in words), error


@pytest.mark.parametrize("kind", [*LATENTS, "of nobody"])
def test_a_search_result_of_other_latents_is_refused(table, kind):
    samples, words = LATENTS.get(kind, (smooth((1, 4, 8, 8)), ()))
    if kind != "several frames":
        words = ("This sampler has not run", "Wire the same sampler")
    error = table.refused(table.result(table.latents(kind, samples))).error
    assert all(word in error for word in words), error


REFUSED: dict[str, tuple[Callable[[Table], Any], tuple[str, ...]]] = {
    "Race, one candidate": (
        lambda t: t.race(candidates=t.number(1)), ("candidates is 1", "expected 2 or more"),
    ),
    "Race, more finish than start": (lambda t: t.race(finish=9), ("finish is 9", "from 1 to candidates (4)")),
    "Race, no check": (lambda t: t.race(checks=" "), ("checks is ()", "one share of the steps or more")),
    "Race, a check at the end": (lambda t: t.race(checks="0.3, 1"), ("(0.3, 1.0)", "below 1")),
    "Race, a check in words": (lambda t: t.race(checks="half"), ("checks is 'half'", "such as 0.3, 0.6")),
    "Race, no x0": (
        lambda t: t.race(sampler_name="probe_blind"), ("showed no predicted x0", "such as euler"),
    ),
    "Race, resampled, no x0": (
        lambda t: t.race(sampler_name="probe_blind_sde", method="resample"),
        ("showed no predicted x0", "such as euler"),
    ),
    "Race, no reward": (
        lambda t: t.race(reward=t.text_reward(weight=0.0)), ("weight 0", "Give at least one reward a weight"),
    ),
    "Race, empty text": (
        lambda t: t.race(reward=t.text_reward(text=" \n")), ("text is empty", "expected at least one line"),
    ),
    "ReNO, a target that is none": (
        lambda t: t.reno(target=NAN), ("target is nan", "expected None or a finite number"),
    ),
    "ReNO, best of n of candidates": (
        lambda t: t.reno(candidates=4), ("candidates=4", "Leave candidates at 1 and set iterations"),
    ),
    "Select, none kept": (lambda t: t.select(k=t.number(0)), ("k is 0", "expected 1 to 3")),
    "Select, a threshold that is none": (
        lambda t: t.select(keep_by="threshold", threshold=NAN), ("threshold", "nan", "expected a finite"),
    ),
    "Select, too much variety": (
        lambda t: t.select(variety=t.number(2.0)), ("variety is 2", "expected 0 (the best) to 1"),
    ),
    "Explore, one cell": (lambda t: t.explore(cells=t.number(1)), ("1 cells a side", "expected 2 to 32")),
    "Explore, no text": (lambda t: t.explore(texts=" \n"), ("no text", "expected at least one")),
    "Explore, a contour that is none": (
        lambda t: t.explore(custom_contour=True, contour=NAN), ("contours is nan", "such as 0.3"),
    ),
    "Explore, corners of other shapes": (
        lambda t: t.explore(corner_2=t.latents("corner", smooth((1, 4, 4, 8)))),
        ("corner 2 of the latent has shape (1, 4, 4, 8)", "(1, 4, 8, 8)", "made for the same model and size"),
    ),
    "Explore, a corner of several frames": (
        lambda t: t.explore(corner_2=t.latents("frames", torch.ones(1, 4, 3, 8, 8))), ("Latent Cut",),
    ),
    "Slider, one position": (
        lambda t: t.slider(positions=t.number(1)), ("positions is 1", "expected 2 or more"),
    ),
    "Slider, equal texts": (
        lambda t: t.slider(less="A  Large red STAR"), ("the same to this model", "expected two that differ"),
    ),
    "Slider, equal groups": (
        lambda t: t.slider(less_latents=t.good(), more_latents=t.good()), ("are the same to this model",),
    ),
    "Slider, empty text": (
        lambda t: t.slider(more=" "), ("text 'more' of the slider is empty", "such as a small house"),
    ),
    "Slider by guidance, nothing left": (
        lambda t: t.guided_slider(denoise=t.number(0.0)), ("denoise 0.0 leave nothing to sample",),
    ),
    "Slider, no range": (lambda t: t.slider(low=0.1, high=0.1), ("range is 0.1 to 0.1", "the first below")),
    "ImageReward, a picture of NaN": (
        lambda t: t.image_reward(image=t.picture(torch.full((1, 64, 64, 3), NAN)), vae=t.world[2]),
        ("image: ", "NaN", "expected pictures", "use fp32"),
    ),
    "ImageReward, no picture": (
        lambda t: t.image_reward(image=t.picture(torch.zeros(0, 64, 64, 3)), vae=t.world[2]),
        ("image: ", "[0, 64, 64, 3]", "expected pictures", "Load Image"),
    ),
    "ImageReward, a picture without colour": (
        lambda t: t.image_reward(image=t.picture(torch.zeros(1, 64, 64, 1)), vae=t.world[2]),
        ("image: ", "[1, 64, 64, 1]", "expected pictures in colour", "Load Image"),
    ),
    "ImageReward, nothing": (lambda t: t.image_reward(), ("has neither", "expected reference, or image")),
    "Balance, one item": (lambda t: t.balance(t.good(1)), ("has 1 item", "expected two or more")),
    "SearchResult, a stock sampler": (
        lambda t: t.graph.add(
            "LatentCLIP_SearchResult", latent=t.good(),
            sampler=t.graph.add("KSamplerSelect", sampler_name="euler")[0],
        ),
        ("searches nothing", "Wire that of a ReNO Sampler or a Race Sampler"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_settings_that_say_nothing_are_refused(table, what):
    make, words = REFUSED[what]
    error = table.refused(make(table)).error
    assert all(word in error for word in words), error


CONCEPTS = {
    "no concept": ({"concepts": " \n "}, ("two concepts or more", "a cat | a dog")),
    "empty concepts": ({"concepts": " | "}, ("two concepts or more",)),
    "one concept": ({"concepts": "a star"}, ("two concepts or more",)),
    "equal concepts": ({"concepts": "a star | A  Star"}, ("one and the same", "that all differ")),
    "two equal of three": ({"concepts": "a ring | a star | A  Star"}, ("'a star'", "one and the same")),
    "alike to the model": (
        {"concepts": "a ring | a star zebra | a star unicorn"},
        ("'a star zebra' and 'a star unicorn'", "one and the same to this model", "that the model knows"),
    ),
    "a target above one": ({"target": "0.5 | 0.6"}, ("[0.5, 0.6]", "sum to 1 (these sum to 1.1)")),
    "a target below one": ({"target": "0.2 | 0.3"}, ("[0.2, 0.3]", "sum to 1 (these sum to 0.5)")),
    "a target for others": ({"target": "0.2 | 0.3 | 0.5"}, ("expected 2 shares", "one for each concept")),
    "a negative target": ({"target": "-0.5 | 1.5"}, ("expected 2 shares from 0 to 1",)),
    "a target of NaN": ({"target": "nan | 0.5"}, ("[nan, 0.5]", "expected 2 shares from 0 to 1")),
    "a target in words": ({"target": "half | half"}, ("target is 'half | half'", "such as 0.5 | 0.5")),
    "too wide a margin": ({"margin": NAN}, ("margin is nan", "0 to below 1")),
}  # fmt: skip


@pytest.mark.parametrize("node", ["shares", "balance"])
@pytest.mark.parametrize("what", CONCEPTS)
def test_concepts_and_targets_that_cannot_be_counted_are_refused(table, node, what):
    widgets, words = CONCEPTS[what]
    error = table.refused(getattr(table, node)(**widgets)).error
    assert all(word in error for word in words), error


def one_broken():
    samples = smooth((3, 4, 8, 8), 5)
    samples[1, 0, 2, 3] = NAN
    return samples


def test_equal_rewards_are_said_and_the_first_are_taken(table):
    latent = table.masked()
    race, reno = table.race(latent_image=latent), table.reno(latent_image=latent)
    rewards, seeds, report, ending = table.shown(race[2], race[3], race[5], reno[5])
    assert seeds[0] == FEW["seed"] and max(rewards) == pytest.approx(min(rewards), rel=1e-4)
    assert "Caution: item 0: all rewards are equal, so the first candidates go on" in report[0]
    assert (
        "the budget of 3 renders ended" in ending[0] and "Caution: item 0: all rewards are equal" in ending[0]
    )


def test_equal_rewards_choose_the_first_and_stand_on_the_node(table):
    same = table.latents("same", smooth((1, 4, 8, 8)).expand(3, -1, -1, -1).contiguous())
    chosen, varied = table.select(same), table.select(same, table.variety(), variety=0.5)
    balanced = table.balance(same, reward=table.text_reward(), concepts="a red star | a blue ring")
    picks, spread, far, report = table.shown(chosen[3], chosen[8], varied[8], balanced[3])
    assert picks == ["0, 1"] and spread == far == pytest.approx([0.0], abs=1e-6)
    assert "all rewards are equal: the first of each concept are chosen" in report[0]


def test_a_series_that_does_not_move_is_said(table):
    latent = table.masked()
    nodes = [table.slider(latent_image=latent), table.guided_slider(latent_image=latent)]
    shown = table.shown(*(node[output] for node in nodes for output in (1, 5)))
    for positions, report in (shown[:2], shown[2:]):
        assert max(positions) - min(positions) < 1e-3
        assert "Caution: item 0 did not move" in report[0]


def test_a_flat_map_is_said(table):
    node = table.explore(latent_image=table.masked(), texts="a red star\na blue ring")
    scores, report = table.shown(node[SCORES], node[REPORT])
    assert all(math.isfinite(score) for score in scores)
    assert "Caution: 'a blue ring': all cells score alike, so there is no contour" in report[0]


def test_one_broken_item_costs_no_other(table):
    """Race, best of n and slider: the other items are sampled as ever, and the broken one is named."""
    latent = table.latents("one broken", one_broken())
    race = table.race(latent_image=latent, finish=1, denoise=0.7)
    reno = table.reno(latent_image=latent, denoise=0.7)
    slider = table.slider(latent_image=latent, denoise=0.7)
    outputs = (race[2], race[5], reno[3], reno[5], slider[1], slider[5])
    rewards, report, best, ending, positions, series = table.shown(*outputs)
    for values in (rewards, best, positions):
        assert all(math.isnan(value) == (place % 3 == 1) for place, value in enumerate(values)), values
    assert "Caution: item 1: no reward is a number, so the first candidates go on" in report[0]
    assert "item 0: no reward" not in report[0]
    assert "item 1: the budget of 3 renders ended, reward nan" in ending[0]
    assert "Caution: item 1: no reward is a number, so the first render is given" in ending[0]
    assert "Caution: item 1 holds NaN or infinity, and has no position" in series[0]


def test_one_broken_item_counts_nowhere(table):
    broken = table.latents("one broken", one_broken())
    whole = table.latents("without it", one_broken()[[0, 2]])
    shares = [table.shares(each) for each in (broken, whole)]
    varied = [table.select(each, table.variety()) for each in (broken, whole)]
    liked = [table.select(reward=table.image_reward(reference=each)) for each in (broken, whole)]
    outputs = [node[1] for node in shares] + [node[2] for node in (*varied, *liked)]
    first, second, apart, apart_whole, like, like_whole = table.shown(*outputs)
    (told,), (told_whole,) = json.loads(first[0]), json.loads(second[0])
    assert told.pop("broken") == 1 and told_whole.pop("broken") == 0 and told == told_whole
    assert math.isnan(apart[1]) and [apart[0], apart[2]] == pytest.approx(apart_whole, abs=1e-6)
    assert like == pytest.approx(like_whole, abs=1e-6)


def test_one_alone_is_what_is_said_of_it(table):
    alone = table.good(1)
    select, varied, shares = table.select(alone), table.select(alone, table.variety()), table.shares(alone)
    race, reno, met = table.race(steps=1), table.reno(iterations=1), table.reno(target=-9.0)
    outputs = (select[3], select[8], varied[2], shares[1], race[4], reno[5], met[5])
    picks, spread, apart, told, saved, ending, reached = table.shown(*outputs)
    assert (picks, spread, apart, saved) == (["0"], [0.0], [0.0], [0.0])
    (share,) = json.loads(told[0])
    assert sum(each["n"] for each in share["hard"]) == 2 and share["unclear"] == 0
    assert ending[0].startswith("item 0: the budget of 1 renders ended, reward 0.")
    assert reached[0].startswith("item 0: reached the target in render 1, reward 0.")


def test_nothing_clear_is_said_and_leaves_json_that_every_reader_takes(table):
    """Concepts that are nearly one: no item shows either clearly."""
    widgets = {"concepts": "a star on a white ground | a white ground and a star", "margin": 0.99}
    shares, balance = table.shares(**widgets), table.balance(**widgets)
    told, distance, report, wanted = table.shown(shares[1], shares[2], balance[3], balance[4])

    def no_constant(name):
        raise AssertionError(f"{name} is no JSON")

    (share,) = json.loads(told[0], parse_constant=no_constant)
    assert share["unclear"] == 3 and share["hard"][0]["value"] is None
    assert 0 <= distance[0] <= 1
    assert "no item shows one concept clearly: none is chosen" in report[0] and len(wanted) == 3
