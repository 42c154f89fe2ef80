"""Score, Classify, Heatmap, Select and Text Reward in a real host, against the library in this process."""

from __future__ import annotations

import shutil
import time

import numpy
import pytest
import torch
from safety_bench import GATE, POLICY
from scoring_bench import TEXTS, dumped, read, reward, score, select, smooth, write_latents

import lclip
from lclip.mini.world import WEIGHTS
from lclip.rewards.rewards import RewardSum, TextReward


@pytest.fixture(scope="module")
def model():
    return lclip.load(WEIGHTS / "latent_clip.safetensors")


@pytest.fixture
def latents(host):
    """Smooth latents of raw scale: [5, 4, 8, 8], also in the host's input folder."""
    return write_latents(host, "latents", smooth((5, 4, 8, 8)))


def test_scores_equal_the_library(host, graph, model, latents):
    node = score(graph, "\n".join([TEXTS[0], "", TEXTS[1]]))
    best, scores, report = (graph.add("Probe_Values", value=node[i]) for i in (1, 2, 3))
    result = host.run(graph).require_ok()
    wanted = lclip.similarity(model, latents, TEXTS)
    torch.testing.assert_close(torch.tensor(result.values(scores)), wanted.mean(1), atol=1e-5, rtol=0)
    assert result.values(best) == [max(result.values(scores))]
    (text,) = result.values(report)
    for value in wanted.flatten().tolist():
        assert f"{value:.4f}"[:-1] in text  # the last figure may round otherwise
    assert all(line in text for line in TEXTS)


@pytest.fixture(scope="module")
def mini_file(host) -> str:
    """The mini world's Latent-CLIP as a file of the model folder, which Load can give a size rule."""
    target = host.models / "mini-latent-clip.safetensors"
    shutil.copyfile(WEIGHTS / "latent_clip.safetensors", target)
    return target.name


@pytest.mark.parametrize("rule", sorted(lclip.SIZE_RULES))
def test_the_rule_of_the_loader_is_that_of_score_and_select(host, graph, model, mini_file, rule):
    samples = write_latents(host, f"wide_{rule}", smooth((2, 4, 12, 20)))
    loaded = graph.add("LatentCLIP_Load", file=mini_file, dtype="float32", size_rule=rule)
    latent = read(graph, f"wide_{rule}")
    scored = graph.add("LatentCLIP_Score", latent_clip=loaded[0], latent=latent, text=TEXTS[0])
    good = graph.add("LatentCLIP_TextReward", latent_clip=loaded[0], text=TEXTS[0], weight=1.0)
    picked = graph.add("LatentCLIP_Select", latent=latent, reward=good[0], k=1)
    scores, rewards = (graph.add("Probe_Values", value=node[2]) for node in (scored, picked))
    result = host.run(graph).require_ok()
    wanted = lclip.similarity(model, samples, TEXTS[0], size_rule=rule)[:, 0]
    torch.testing.assert_close(torch.tensor(result.values(scores)), wanted, atol=1e-5, rtol=0)
    scale = 0.01 * model.logit_scale
    torch.testing.assert_close(torch.tensor(result.values(rewards)), scale * wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("title, space", [("FLUX.1 · Z-Image · Chroma", "flux"), ("SD1.5", "sd1.5")])
def test_other_models_latents_are_read_by_a_choice_of_the_loader(host, graph, sdxl_clip, title, space):
    known = lclip.space_named(space)
    samples = write_latents(host, f"other_{space}", smooth((2, known.channels, 16, 16)))
    loaded = graph.add("LatentCLIP_Load", file=sdxl_clip, dtype="float32", latents=title)
    scored = graph.add(
        "LatentCLIP_Score", latent_clip=loaded[0], latent=read(graph, f"other_{space}"), text="a ring"
    )
    scores = graph.add("Probe_Values", value=scored[2])
    result = host.run(graph).require_ok()
    own = lclip.load(host.models / sdxl_clip)
    wanted = lclip.similarity(lclip.apply_adapter(own, lclip.shipped_adapter(space)), samples, "a ring")[:, 0]
    torch.testing.assert_close(torch.tensor(result.values(scores)), wanted, atol=1e-5, rtol=0)


def test_latents_pass_through_and_stay_as_they_were(host, graph):
    mask = numpy.linspace(0, 1, 3 * 64).reshape(3, 1, 8, 8).astype(numpy.float32)
    samples = write_latents(
        host, "keys", smooth((3, 4, 8, 8)), noise_mask=mask, batch_index=[4, 7, 9], extra=[1.5]
    )
    source = read(graph, "keys")
    node = score(graph, TEXTS[0], source)
    picked = select(graph, 2, latent=source)
    through = graph.add("Probe_DumpLatent", latent=node[0], name="through")
    graph.add("Probe_DumpLatent", latent=picked[0], name="picked")
    host.run(graph).require_ok()
    graph.add(
        "Probe_DumpLatent", latent=source, name="source_afterwards"
    )  # the cached tensor, after everything ran
    again = host.run(graph).require_ok()
    assert str(source[0]) not in again.executed and through not in again.executed
    for name in ("through", "source_afterwards"):
        content = dumped(host, name)
        assert sorted(content) == ["batch_index", "extra", "noise_mask", "samples"]
        numpy.testing.assert_array_equal(content["samples"], samples.numpy())
        numpy.testing.assert_array_equal(content["noise_mask"], mask)


def test_a_second_run_is_fully_cached(host, graph, latents):
    node = score(graph, "a yellow star")
    picked = select(graph, 1, "a yellow star")
    for value in (node[3], picked[3]):
        graph.add("Probe_Values", value=value)
    first = host.run(graph).require_ok()
    assert node in first.executed and picked in first.executed
    assert host.run(graph).require_ok().executed == set()


def test_classify_gives_the_librarys_probabilities(host, graph, model, latents):
    labels, templates = ["red circle", "blue square", "green star"], ["a {}", "a large {} on a black ground"]
    world = graph.add("LatentCLIP_MiniWorld")
    node = graph.add(
        "LatentCLIP_Classify", latent_clip=world[3], latent=read(graph), labels="\n".join(labels),
        templates="\n".join(templates),
    )  # fmt: skip
    tops, chances = (graph.add("Probe_Values", value=node[i]) for i in (1, 2))
    graph.add("Probe_DumpTensor", tensor=node[3], name="chart")
    result = host.run(graph).require_ok()
    wanted = lclip.classify(model, latents, labels, templates)
    torch.testing.assert_close(torch.tensor(result.values(chances)), wanted.amax(1), atol=1e-5, rtol=0)
    assert result.values(tops) == [labels[i] for i in wanted.argmax(1).tolist()]
    chart = numpy.load(host.output / "chart.npy")
    assert chart.shape[0] == len(latents) and chart.shape[-1] == 3
    # The winner's bar, in blue: its length is its probability.
    blue = (numpy.abs(chart - numpy.array([0, 114, 178]) / 255).max(-1) < 0.01).any(1).sum(-1)
    full = blue / wanted.amax(1).numpy()
    assert full.max() - full.min() < 0.02 * full.max() + 2 / wanted.amax(1).numpy().min()


def test_heatmap_is_a_mask_of_the_pictures_size(host, graph, model):
    samples = write_latents(host, "tall", smooth((3, 4, 12, 8)))
    world = graph.add("LatentCLIP_MiniWorld")
    node = graph.add("LatentCLIP_Heatmap", latent_clip=world[3], latent=read(graph, "tall"), text=TEXTS[0])
    for output, name in ((0, "mask"), (1, "overlay")):
        graph.add("Probe_DumpTensor", tensor=node[output], name=name)
    host.run(graph).require_ok()
    mask, overlay = (numpy.load(host.output / f"{name}.npy") for name in ("mask", "overlay"))
    assert mask.shape == (3, 96, 64) and overlay.shape == (3, 96, 64, 3)
    assert mask.min() >= 0 and mask.max() <= 1 and overlay.min() >= 0 and overlay.max() <= 1
    cosines = lclip.heatmap(model, samples, TEXTS[0])
    for item in range(3):  # each item by itself: its cells follow the library's map, and 0..1 is used up
        cells = mask[item].reshape(12, 8, 8, 8)[:, 3:5, :, 3:5].mean((1, 3))
        assert numpy.corrcoef(cells.ravel(), cosines[item].flatten().numpy())[0, 1] > 0.99
        assert mask[item].min() == 0 and mask[item].max() == pytest.approx(1)


def test_select_keeps_the_best_with_everything_that_belongs_to_them(host, graph, model):
    mask = numpy.arange(5, dtype=numpy.float32).reshape(5, 1, 1) * numpy.ones((5, 8, 8), numpy.float32)
    samples = write_latents(
        host, "batch", smooth((5, 4, 8, 8), 8), noise_mask=mask, batch_index=[10, 11, 12, 13, 14]
    )
    node = select(graph, 2, latent=read(graph, "batch"))
    for output, name in ((0, "best"), (1, "rest")):
        graph.add("Probe_DumpLatent", latent=node[output], name=name)
    scores, picks = (graph.add("Probe_Values", value=node[i]) for i in (2, 3))
    result = host.run(graph).require_ok()
    wanted = TextReward(model, TEXTS[0])(samples)
    torch.testing.assert_close(torch.tensor(result.values(scores)), wanted, atol=1e-5, rtol=0)
    best = wanted.argsort(descending=True)[:2].tolist()
    rest = [i for i in range(5) if i not in best]
    assert result.values(picks) == [", ".join(map(str, best))]
    for name, items in (("best", best), ("rest", rest)):
        content = dumped(host, name)
        numpy.testing.assert_array_equal(content["samples"], samples[items].numpy())
        numpy.testing.assert_array_equal(content["noise_mask"], mask[items])
        assert content["batch_index"].tolist() == [10 + i for i in items]


def test_select_numbers_items_as_the_hosts_own_node_does(host, graph, latents):
    """Latent From Batch writes batch_index, so that the same seed gives an item its own noise again."""
    node = select(graph, 1)
    picks = graph.add("Probe_Values", value=node[3])
    graph.add("Probe_DumpLatent", latent=node[0], name="ours")
    pick = int(host.run(graph).require_ok().values(picks)[0])
    stock = graph.add("LatentFromBatch", samples=read(graph), batch_index=pick, length=1)
    graph.add("Probe_DumpLatent", latent=stock[0], name="theirs")
    host.run(graph).require_ok()
    ours, theirs = dumped(host, "ours"), dumped(host, "theirs")
    assert sorted(ours) == sorted(theirs)
    for key in ours:
        numpy.testing.assert_array_equal(ours[key], theirs[key])


def test_select_all_leaves_nothing_for_the_rest_and_skips_what_hangs_there(host, graph, latents):
    node = select(graph, 5)
    kept = graph.add("Probe_DumpLatent", latent=node[0], name="all")
    left = graph.add("Probe_DumpLatent", latent=node[1], name="none")
    result = host.run(graph).require_ok()
    assert kept in result.entry["outputs"] and left not in result.entry["outputs"]
    assert len(dumped(host, "all")["samples"]) == 5


def test_rewards_add_up(host, graph, model, latents):
    both = reward(graph, TEXTS[1], weight=-0.5, add_to=reward(graph, TEXTS[0], weight=2.0)[0])
    node = graph.add("LatentCLIP_Select", latent=read(graph), reward=both[0], k=1)
    scores = graph.add("Probe_Values", value=node[2])
    result = host.run(graph).require_ok()
    wanted = RewardSum([TextReward(model, TEXTS[0], 2.0), TextReward(model, TEXTS[1], -0.5)])(latents)
    torch.testing.assert_close(torch.tensor(result.values(scores)), wanted, atol=1e-5, rtol=0)


def test_nodes_that_hang_on_one_model_and_batch_have_it_read_once(host, graph):
    """By a counter on the image tower: Score, Classify, a reward, Select with its variety, and the gate."""
    write_latents(host, "once", smooth((5, 4, 8, 8), seed=77))  # read by no other test
    loaded = graph.add("LatentCLIP_MiniWorld")[3]
    clip, batch = graph.add("Probe_CountPasses", latent_clip=loaded)[0], read(graph, "once")
    scored = graph.add("LatentCLIP_Score", latent_clip=clip, latent=batch, text=TEXTS[0])
    named = graph.add(
        "LatentCLIP_Classify", latent_clip=clip, latent=scored[0], labels="star\nring", templates="a {}"
    )
    wish = graph.add("LatentCLIP_TextReward", latent_clip=clip, text=TEXTS[1], weight=1.0)
    kept = graph.add("LatentCLIP_Select", latent=named[0], reward=wish[0], k=3, variety=0.5)
    policy = graph.add("LatentCLIP_SafetyPolicy", latent_clip=clip, **{**POLICY, "augmentations": "whole"})
    gate = graph.add("LatentCLIP_SafetyGate", policy=policy[0], latent=kept[0], **GATE)
    passes = graph.add("Probe_Passes", latent_clip=clip, after=gate[3])
    shown = graph.add("Probe_Values", value=passes[0])
    assert host.run(graph).require_ok().values(shown) == [[5]]


def test_a_batch_of_64_is_scored_as_its_items_are(host, graph, model):
    samples = write_latents(host, "many", smooth((64, 4, 8, 8), 64))
    scores = graph.add("Probe_Values", value=score(graph, TEXTS[0], read(graph, "many"))[2])
    result = host.run(graph).require_ok()
    one_by_one = torch.cat([lclip.similarity(model, z[None], TEXTS[0])[:, 0] for z in samples])
    torch.testing.assert_close(torch.tensor(result.values(scores)), one_by_one, atol=1e-5, rtol=0)


def test_models_survive_being_unloaded(host, graph, latents):
    node = score(graph, "a purple ring")
    scores = graph.add("Probe_Values", value=node[2])
    before = host.run(graph).require_ok().values(scores)
    host.post("/free", {"unload_models": True, "free_memory": True})  # models and cached outputs
    again = run_until_executed(host, graph, node)
    assert again.values(scores) == before
    host.post("/free", {"unload_models": True})  # models only: the wire still holds the same one
    time.sleep(1)
    graph.nodes[node]["inputs"]["text"] = "a purple ring\na red star"
    changed = host.run(graph).require_ok()
    assert changed.executed == {node, scores} and changed.values(scores) != before


def run_until_executed(host, graph, node):
    """Freeing happens when the host's worker wakes up: soon, but not at once."""
    for _ in range(60):
        result = host.run(graph).require_ok()
        if node in result.executed:
            return result
        time.sleep(0.5)
    raise AssertionError("the cached outputs were never freed")


@pytest.mark.parametrize(
    ("shape", "said"),
    [((1, 16, 8, 8), "16 channels"), ((1, 4, 3, 8, 8), "video latents"), ((2, 4, 8), "3 dimensions")],
)
def test_latents_of_another_kind_are_refused_in_words(host, graph, shape, said):
    write_latents(host, f"odd{len(shape)}_{shape[1]}", torch.ones(shape))
    score(graph, TEXTS[0], read(graph, f"odd{len(shape)}_{shape[1]}"))
    node = str(len(graph.nodes))
    graph.add("Probe_Values", value=[node, 1])
    assert said in host.run(graph).error


def test_an_item_with_nan_is_never_chosen_while_others_are_there(host, graph):
    samples = smooth((3, 4, 8, 8))
    samples[1, 2, 3, 4] = float("nan")
    write_latents(host, "nan", samples)
    picked = graph.add("Probe_Values", value=select(graph, 2, latent=read(graph, "nan"))[3])
    (pick_list,) = host.run(graph).require_ok().values(picked)
    assert sorted(pick_list.split(", ")) == ["0", "2"]


def test_a_suspicious_scale_is_said_in_the_report(host, graph):
    write_latents(host, "scaled", smooth((2, 4, 8, 8)) / 60)
    report = graph.add("Probe_Values", value=score(graph, TEXTS[0], read(graph, "scaled"))[3])
    (text,) = host.run(graph).require_ok().values(report)
    assert "for sampling" in text


def test_too_large_a_k_keeps_what_is_there(host, graph, latents):
    picked = graph.add("Probe_Values", value=select(graph, 6)[3])
    (pick_list,) = host.run(graph).require_ok().values(picked)
    assert sorted(pick_list.split(", ")) == ["0", "1", "2", "3", "4"]


def test_an_empty_text_is_refused(host, graph, latents):
    graph.add("Probe_Values", value=score(graph, " \n ")[1])
    assert "text widget is empty" in host.run(graph).error
