"""What a model cannot read of texts, and what is odd about examples, is said where an artist sees it."""

from __future__ import annotations

import time

import numpy
import pytest
import torch
from PIL import Image
from safety_bench import GATE, POLICY, policy_on_the_mini_world
from sampling_bench import Sampling
from scoring_bench import read, score, select, smooth, write_latents
from sibling_latents import like

from benchmarks.server import Result

KNOWN, UNKNOWN, CUT = "a red circle", "a red zebra with unicorn", "a red circle and a blue square " * 20
READERS = ("Score", "Classify", "Heatmap", "Select")


@pytest.fixture(autouse=True)
def latents(host):
    return write_latents(host, "latents", smooth((3, 4, 8, 8)))


def reader(graph, kind, text):
    if kind == "Select":
        return select(graph, 1, text)
    if kind == "Score":
        return score(graph, text)
    widgets = (
        {"labels": f"{text}\na blue square", "templates": "{}"} if kind == "Classify" else {"text": text}
    )
    clip = graph.add("LatentCLIP_MiniWorld")[3]
    return graph.add(f"LatentCLIP_{kind}", latent_clip=clip, latent=read(graph), **widgets)


def height(host, graph, node):
    """How tall the picture on a node is: what is said below it makes it taller."""
    picture = host.run(graph).require_ok().images(node)[-1]
    with Image.open(host.base / "temp" / picture.name) as opened:
        return opened.height


@pytest.mark.parametrize("kind", READERS)
def test_unknown_words_and_a_cut_text_stand_on_the_node(host, new_graph, kind):
    heights = []
    for text in (KNOWN, UNKNOWN, CUT):
        graph = new_graph()
        heights.append(height(host, graph, reader(graph, kind, text)))
    assert min(heights[1:]) > heights[0] + 20


def test_labels_are_read_as_the_templates_word_them(host, new_graph):
    heights = []
    for template in ("a {}", "an etching of a {}"):
        graph = new_graph()
        clip = graph.add("LatentCLIP_MiniWorld")[3]
        node = graph.add(
            "LatentCLIP_Classify", latent_clip=clip, latent=read(graph), labels="red circle\nblue square",
            templates=template,
        )  # fmt: skip
        heights.append(height(host, graph, node))
    assert heights[1] > heights[0] + 20


def test_the_report_names_the_words_and_the_cut_text(host, graph):
    reports = [
        graph.add("Probe_Values", value=score(graph, text)[3]) for text in (KNOWN, f"{KNOWN}\n{UNKNOWN}", CUT)
    ]
    result = host.run(graph).require_ok()
    known, unknown, cut = (result.values(report)[0] for report in reports)
    assert "Caution" not in known
    assert "Caution: this model does not know the words zebra, unicorn, so" in unknown
    assert "Caution: the end of a text is not read" in cut


def test_what_a_reward_cannot_read_goes_with_it_through_a_sum(host, new_graph):
    heights = []
    for text in (KNOWN, UNKNOWN):
        graph = new_graph()
        clip = graph.add("LatentCLIP_MiniWorld")[3]
        first = graph.add("LatentCLIP_TextReward", latent_clip=clip, text=text, weight=1.0)[0]
        both = graph.add("LatentCLIP_TextReward", latent_clip=clip, text=KNOWN, weight=1.0, add_to=first)[0]
        heights.append(
            height(host, graph, graph.add("LatentCLIP_Select", latent=read(graph), reward=both, k=1))
        )
    assert heights[1] > heights[0] + 20


def test_an_odd_reference_is_said_wherever_the_reward_is_used(host, new_graph, latents):
    write_latents(
        host, "reference_noise", 14 * torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    )
    heights = []
    for name in ("latents", "reference_noise"):
        graph = new_graph()
        clip = graph.add("LatentCLIP_MiniWorld")[3]
        reward = graph.add(
            "LatentCLIP_ImageReward", latent_clip=clip, reference=read(graph, name), weight=1.0
        )[0]
        heights.append(
            height(host, graph, graph.add("LatentCLIP_Select", latent=read(graph), reward=reward, k=1))
        )
    assert heights[1] > heights[0] + 20


def test_odd_examples_stand_in_the_report_of_a_taste(host, graph):
    odd = smooth((4, 4, 16, 16), 5)
    odd[1] = 14 * torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(1))
    write_latents(host, "odd_liked", odd)
    write_latents(host, "disliked", smooth((4, 4, 16, 16), 6))
    clip = graph.add("LatentCLIP_MiniWorld")[3]
    node = graph.add(
        "LatentCLIP_TrainTaste", latent_clip=clip, liked=read(graph, "odd_liked"),
        disliked=read(graph, "disliked"), weight=1.0, save=False, save_as="", regularization="auto",
    )  # fmt: skip
    report = graph.add("Probe_Values", value=node[2])
    (text,) = host.run(graph).require_ok().values(report)
    assert "Caution: liked latents, batch item 1 of 4: looks like noise" in text
    assert "Caution: disliked" not in text


def test_reno_shows_below_its_curve_what_the_reward_cannot_read(host, new_graph):
    heights = []
    for text in (KNOWN, UNKNOWN):
        bench = Sampling(host, new_graph())
        reward = bench.graph.add("LatentCLIP_TextReward", latent_clip=bench.clip, text=text, weight=1.0)[0]
        empty = bench.graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)[0]
        node = bench.reno(bench.model, reward, empty, iterations=2)
        bench.graph.add("Probe_Values", value=node[3])
        heights.append(height(host, bench.graph, node))
    assert heights[1] > heights[0] + 20


def pictures_on(host, graph, node):
    graph.add("LatentCLIP_Select", latent=read(graph), reward=node[0], k=1)
    return host.run(graph).require_ok().images(node)


def test_a_text_reward_shows_its_own_cautions_and_nothing_else(host, new_graph):
    pictures = []
    for text in (KNOWN, UNKNOWN, CUT, f"{KNOWN} on a white ground", f"{KNOWN} on a black ground"):
        graph = new_graph()
        for _ in range(40):  # no other test has a node of that number
            clip = graph.add("LatentCLIP_MiniWorld")[3]
        node = graph.add("LatentCLIP_TextReward", latent_clip=clip, text=text, weight=1.0)
        pictures.append(pictures_on(host, graph, node))
    # A browser keeps a picture until another comes: the first good text after a caution says so.
    assert [len(found) for found in pictures] == [0, 1, 1, 1, 0]


def run_in(workflow, host, graph):
    """As a browser runs it, which tells what the workflow is."""
    told = {"extra_pnginfo": {"workflow": {"id": workflow}}}
    queued = host.post("/prompt", {"prompt": graph.nodes, "extra_data": told})["prompt_id"]
    while not (entry := host.get(f"/history/{queued}").get(queued, {})).get("status", {}).get("status_str"):
        time.sleep(0.05)
    return Result(host, graph, entry=entry).require_ok()


def test_a_caution_is_taken_back_only_in_the_workflow_that_showed_it(host, new_graph):
    """Nodes of two workflows have the same numbers."""
    shown = []
    for workflow, text in (("one", UNKNOWN), ("other", f"{KNOWN} on white"), ("one", f"{KNOWN} on black")):
        graph = new_graph()
        clip = graph.add("LatentCLIP_MiniWorld")[3]
        node = graph.add("LatentCLIP_TextReward", latent_clip=clip, text=text, weight=1.0)
        graph.add("Probe_Values", value=node[0])
        shown.append(len(run_in(workflow, host, graph).images(node)))
    assert shown == [1, 0, 1]


@pytest.mark.parametrize(("name", "shows"), [("latents", 0), ("noise_to_like", 1)])
def test_an_image_reward_shows_what_is_odd_about_its_reference(host, graph, name, shows):
    write_latents(host, "noise_to_like", 14 * torch.randn(1, 4, 16, 16))
    for _ in range(80 + shows):  # no other test has a node of that number
        clip = graph.add("LatentCLIP_MiniWorld")[3]
    node = graph.add("LatentCLIP_ImageReward", latent_clip=clip, reference=read(graph, name), weight=1.0)
    assert len(pictures_on(host, graph, node)) == shows


def test_a_taste_of_few_examples_shows_its_warning(host, graph):
    write_latents(host, "few_liked", smooth((3, 4, 16, 16), 5))
    write_latents(host, "few_disliked", smooth((3, 4, 16, 16), 6))
    clip = graph.add("LatentCLIP_MiniWorld")[3]
    node = graph.add(
        "LatentCLIP_TrainTaste", latent_clip=clip, liked=read(graph, "few_liked"),
        disliked=read(graph, "few_disliked"), weight=1.0, save=False, save_as="", regularization="auto",
    )  # fmt: skip
    assert len(pictures_on(host, graph, node)) == 1


def test_the_gate_says_below_its_verdicts_why_an_item_is_unreadable(host, new_graph):
    odd = smooth((3, 4, 8, 8))
    odd[1] = float("nan")
    write_latents(host, "unreadable", odd)
    heights = []
    for name in ("latents", "unreadable"):
        graph = new_graph()
        node = graph.add(
            "LatentCLIP_SafetyGate", policy=policy_on_the_mini_world(graph), latent=read(graph, name), **GATE
        )
        graph.add("Probe_Values", value=node[5])
        heights.append(height(host, graph, node))
    assert heights[1] > heights[0] + 20


def test_calibrating_with_few_examples_says_so_below_the_chart(host, graph):
    node = graph.add(
        "LatentCLIP_CalibrateSafety", policy=policy_on_the_mini_world(graph), safe=read(graph),
        unsafe=read(graph), target=0.05,
    )  # fmt: skip
    graph.add("Probe_DumpTensor", tensor=node[2], name="roc")
    assert height(host, graph, node) > numpy.load(host.output / "roc.npy").shape[1] + 20


def policy_of_sdxl(graph, sdxl_clip):
    clip = graph.add("LatentCLIP_Load", file=sdxl_clip, dtype="float32")[0]
    return graph.add("LatentCLIP_SafetyPolicy", latent_clip=clip, **POLICY)[0]


def test_the_gate_says_that_a_batch_looks_like_another_models(host, new_graph, sdxl_clip):
    """On its sheet and in its report: nothing else tells SD1.5's latents in SDXL's place."""
    heights, reports = [], []
    for space in ("sdxl", "sd1.5"):
        write_latents(host, f"like_{space}", like(space))
        graph = new_graph()
        node = graph.add(
            "LatentCLIP_SafetyGate", policy=policy_of_sdxl(graph, sdxl_clip),
            latent=read(graph, f"like_{space}"), **GATE,
        )  # fmt: skip
        report = graph.add("Probe_Values", value=node[5])
        heights.append(height(host, graph, node))
        reports += host.run(graph).require_ok().values(report)
    assert heights[1] > heights[0] + 20
    assert "look like SD1.5" not in reports[0] and "Note: these look like SD1.5 latents" in reports[1]


def test_calibrating_with_another_models_latents_says_so(host, graph, sdxl_clip):
    for space in ("sdxl", "sd1.5"):
        write_latents(host, f"like_{space}", like(space))
    node = graph.add(
        "LatentCLIP_CalibrateSafety", policy=policy_of_sdxl(graph, sdxl_clip), target=0.05,
        safe=read(graph, "like_sdxl"), unsafe=read(graph, "like_sd1.5"),
    )  # fmt: skip
    report = graph.add("Probe_Values", value=node[1])
    (text,) = host.run(graph).require_ok().values(report)
    assert "Warning: unsafe: these look like SD1.5 latents" in text and "Warning: safe:" not in text


@pytest.mark.parametrize(("space", "shows"), [("sdxl", 0), ("sd1.5", 1)])
def test_a_reference_of_another_model_is_said(host, graph, sdxl_clip, space, shows):
    write_latents(host, f"reference_{space}", like(space))
    for _ in range(120 + shows):  # no other test has a node of that number
        clip = graph.add("LatentCLIP_Load", file=sdxl_clip, dtype="float32")[0]
    node = graph.add(
        "LatentCLIP_ImageReward", latent_clip=clip, reference=read(graph, f"reference_{space}"), weight=1.0
    )
    graph.add("Probe_Values", value=node[0])
    assert len(host.run(graph).require_ok().images(node)) == shows


def test_the_gate_notes_on_its_sheet_that_nothing_is_calibrated(host, new_graph):
    """Words that stood in the report alone."""
    seen = []
    for calibrated in (True, False):
        graph = new_graph()
        policy = policy_on_the_mini_world(graph)
        if calibrated:
            policy = graph.add(
                "LatentCLIP_CalibrateSafety", policy=policy, safe=read(graph), unsafe=read(graph), target=0.0
            )[0]
        node = graph.add("LatentCLIP_SafetyGate", policy=policy, latent=read(graph), **GATE)
        graph.add("Probe_Values", value=node[5])
        seen.append(height(host, graph, node))
    assert seen[1] > seen[0] + 20
