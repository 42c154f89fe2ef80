"""Train Taste and Load Taste in a real host: learnt in the canvas, saved, loaded, chained, refused."""

from __future__ import annotations

import dataclasses
import json
import time

import numpy
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import lclip
from lclip.mini import load_world
from lclip.mini.drawing import render_batch, sample_scenes

COUNT = 12


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture(scope="module")
def folder(host):
    return host.base / "models" / "latent_clip_tastes"


@pytest.fixture(scope="module")
def sides(host, world):
    """Large and small single objects: 12 of each to learn from, and 24 mixed ones to choose from."""
    scenes = [scene for scene in sample_scenes(300, 67, split="all") if scene.content.kind == "single"]
    pixels = torch.from_numpy(render_batch(scenes)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        z = world.encode(pixels)
    large = torch.tensor([scene.content.size == "large" for scene in scenes])
    parts = {
        "liked": z[large][:COUNT],
        "disliked": z[~large][:COUNT],
        "fresh": torch.cat([z[large][COUNT : 2 * COUNT], z[~large][COUNT : 2 * COUNT]]),
    }
    for name, part in parts.items():
        numpy.savez(host.input / f"taste_{name}.npz", samples=part.numpy())
    return parts


def latent(graph, name):
    return graph.add("Probe_ReadLatent", name=f"taste_{name}")[0]


def trained(graph, loader, save_as="", **widgets):
    return graph.add(
        "LatentCLIP_TrainTaste", latent_clip=loader[3], liked=latent(graph, "liked"),
        disliked=latent(graph, "disliked"), save_as=save_as,
        **{"weight": 1.0, "save": bool(save_as), "regularization": "auto", **widgets},
    )  # fmt: skip


def scores(graph, reward):
    select = graph.add("LatentCLIP_Select", latent=latent(graph, "fresh"), reward=reward, k=COUNT)
    return graph.add("Probe_Values", value=select[2]), graph.add("Probe_Values", value=select[3])


def test_a_taste_is_learnt_in_the_canvas_and_chooses(host, graph, world, sides):
    loader = graph.add("LatentCLIP_MiniWorld")
    taste = trained(graph, loader)
    values, picks = scores(graph, taste[0])
    accuracy, report = (graph.add("Probe_Values", value=taste[i]) for i in (1, 2))
    result = host.run(graph).require_ok()
    own = lclip.train_taste(world.latent_clip, sides["liked"], sides["disliked"])
    wanted = lclip.TasteReward(world.latent_clip, own)(sides["fresh"])
    torch.testing.assert_close(torch.tensor(result.values(values)), wanted, atol=1e-5, rtol=0)
    assert result.values(accuracy) == [pytest.approx(own.figures.accuracy)]
    assert "12 liked and 12 disliked" in result.values(report)[0] and "mini world" in result.values(report)[0]
    chosen = [int(index) for index in result.values(picks)[0].split(",")]
    assert sum(index < COUNT for index in chosen) >= COUNT * 0.75  # the large ones come first


def test_saved_and_loaded_it_is_the_same_and_nothing_is_overwritten(host, graph, folder, sides):
    loader = graph.add("LatentCLIP_MiniWorld")
    taste = trained(graph, loader, "mine", weight=0.5)
    before, _ = scores(graph, taste[0])
    first = host.run(graph).require_ok().values(before)
    path = folder / "mine.safetensors"
    assert path.stat().st_size < 4096
    kept = path.read_bytes()

    graph.nodes[taste]["inputs"].update(weight=2.0)  # the same taste: no second file
    host.run(graph).require_ok()
    assert not (folder / "mine_2.safetensors").exists()
    graph.nodes[taste]["inputs"].update(regularization="strong")
    host.run(graph).require_ok()
    assert path.read_bytes() == kept and (folder / "mine_2.safetensors").exists()

    again = type(graph)()
    loader = again.add("LatentCLIP_MiniWorld")
    loaded = again.add("LatentCLIP_LoadTaste", file="mine.safetensors", latent_clip=loader[3], weight=0.5)
    after, _ = scores(again, loaded[0])
    report = again.add("Probe_Values", value=loaded[1])
    result = host.run(again).require_ok()
    assert result.values(after) == pytest.approx(first, abs=1e-6)
    assert "12 liked" in result.values(report)[0]
    info = host.get("/object_info/LatentCLIP_LoadTaste")["LatentCLIP_LoadTaste"]
    listed = info["input"]["required"]["file"]
    assert "mine.safetensors" in (listed[0] if isinstance(listed[0], list) else listed[1]["options"])


def test_it_adds_up_with_other_rewards(host, graph, world, sides):
    loader = graph.add("LatentCLIP_MiniWorld")
    text = graph.add("LatentCLIP_TextReward", latent_clip=loader[3], text="a red star", weight=1.0)
    alone, _ = scores(graph, trained(graph, loader)[0])
    both, _ = scores(graph, trained(graph, loader, add_to=text[0])[0])
    result = host.run(graph).require_ok()
    other = lclip.TextReward(world.latent_clip, "a red star")(sides["fresh"])
    wanted = torch.tensor(result.values(alone)) + other
    torch.testing.assert_close(torch.tensor(result.values(both)), wanted, atol=1e-5, rtol=0)


def test_off_it_is_not_saved_whatever_the_name(host, graph, folder, sides):
    taste = trained(graph, graph.add("LatentCLIP_MiniWorld"), "fleeting", save=False)
    report = graph.add("Probe_Values", value=taste[2])
    assert "saved as" not in host.run(graph).require_ok().values(report)[0]
    assert not (folder / "fleeting.safetensors").exists()


def test_it_trains_without_anything_behind_it(host, graph, folder, sides):
    """As an artist does who only wants the file."""
    trained(graph, graph.add("LatentCLIP_MiniWorld"), "sub/alone")
    host.run(graph).require_ok()
    assert (folder / "sub" / "alone.safetensors").exists()


def test_reno_climbs_a_taste(host, graph, sides):
    loader = graph.add("LatentCLIP_MiniWorld")
    prompt = graph.add("CLIPTextEncode", clip=loader[1], text="a red star on a white ground")
    empty = graph.add("EmptyLatentImage", width=64, height=64, batch_size=2)
    reno = graph.add(
        "LatentCLIP_ReNO", model=loader[0], seed=3, steps=1, cfg=1.0, sampler_name="euler",
        scheduler="simple", positive=prompt[0], negative=prompt[0], latent_image=empty[0], denoise=1.0,
        reward=trained(graph, loader)[0], **reno_defaults(host, iterations=8),
    )  # fmt: skip
    taste = trained(graph, loader)
    ends = []
    for output in (0, 1):
        select = graph.add("LatentCLIP_Select", latent=reno[output], reward=taste[0], k=1)
        ends.append(graph.add("Probe_Values", value=select[2]))
    result = host.run(graph).require_ok()
    best, initial = (result.values(end) for end in ends)
    assert all(after > before for after, before in zip(best, initial, strict=True))


def reno_defaults(host, **changes):
    """Every further widget of the node, at its default."""
    given = {"seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"}
    found = {}
    for name, spec in host.object_info["LatentCLIP_ReNO"]["input"]["required"].items():
        if name in given or len(spec) < 2:
            continue
        if "default" in spec[1]:
            found[name] = spec[1]["default"]
        elif isinstance(spec[0], list):
            found[name] = spec[0][0]
        elif "options" in spec[1]:
            found[name] = spec[1]["options"][0]
    return {**found, **changes}


@pytest.mark.parametrize(
    "name", ["", "../stray", "/etc/stray", "a/../../stray", "C:\\stray", "a//b", "..", "sub/.. "]
)
def test_names_that_lead_out_of_the_folder_are_refused(host, graph, folder, sides, name):
    trained(graph, graph.add("LatentCLIP_MiniWorld"), name, save=True)
    error = host.run(graph).error
    assert "expected one like 'mine'" in error
    assert not list(host.base.rglob("*stray*"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("what?", "Windows forbids '?'"),
        ("con", "Windows keeps this name"),
        ("sub./mine", "Windows drops dots"),
        ("x" * 260, "file systems take 255"),
        ("blocked/mine", "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line(host, graph, folder, sides, name, said):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "blocked").write_text("a file where a folder is wanted")
    trained(graph, graph.add("LatentCLIP_MiniWorld"), name, save=True)
    error = host.run(graph).error
    assert said in error and "Traceback" not in error


def test_a_name_of_240_letters_is_saved(host, graph, folder, sides):
    trained(graph, graph.add("LatentCLIP_MiniWorld"), "y" * 238, save=True)
    host.run(graph).require_ok()
    assert (folder / f"{'y' * 238}.safetensors").exists()


def test_shared_and_unreadable_examples_are_refused_in_the_browser(host, graph, sides):
    mixed = torch.cat([sides["disliked"][:4], sides["liked"][2:3]])
    numpy.savez(host.input / "taste_mixed.npz", samples=mixed.numpy())
    numpy.savez(host.input / "taste_one.npz", samples=sides["disliked"][:1].numpy())
    numpy.savez(host.input / "taste_wide.npz", samples=torch.randn(3, 16, 8, 8).numpy())
    cases = (("mixed", "liked item 2 and disliked item 4"),
             ("one", "there is 1 disliked picture"), ("wide", "16 channels"))  # fmt: skip
    for name, said in cases:
        small = type(graph)()
        taste = trained(small, small.add("LatentCLIP_MiniWorld"))
        small.nodes[taste]["inputs"]["disliked"] = latent(small, name)
        result = host.run(small)
        assert not result.ok and said in result.error, name


def test_files_of_another_model_or_version_are_refused_by_name(host, graph, folder, sides):
    torch.manual_seed(3)
    config = load_world().latent_clip.config
    other = lclip.LatentCLIP(config, tokenizer=load_world().tokenizer).eval()
    taste = lclip.train_taste(other, sides["liked"], sides["disliked"], model_name="another.safetensors")
    folder.mkdir(exist_ok=True)
    lclip.save_taste(taste, folder / "foreign.safetensors")
    with safe_open(folder / "foreign.safetensors", "pt") as file:
        metadata = {**file.metadata(), "version": "7"}
    save_file(load_file(folder / "foreign.safetensors"), folder / "newer.safetensors", metadata)
    save_file({"weight": torch.ones(1, 768), "bias": torch.ones(1)}, folder / "wide.safetensors")
    for name, said in (("foreign", "another.safetensors"), ("newer", "version 7"), ("wide", "768 numbers")):
        small = type(graph)()
        loader = small.add("LatentCLIP_MiniWorld")
        loaded = small.add(
            "LatentCLIP_LoadTaste", file=f"{name}.safetensors", latent_clip=loader[3], weight=1.0
        )
        scores(small, loaded[0])
        result = host.run(small)
        assert not result.ok and said in result.error, json.dumps(result.entry)[:2000]


def test_a_taste_from_the_same_latents_is_taken_as_it_was_saved(host, graph, folder, sides):
    """As after a restart, on a device that would not give the same digits again: the file is right."""
    loader = graph.add("LatentCLIP_MiniWorld")
    taste = trained(graph, loader, "twice")
    values, _ = scores(graph, taste[0])
    report = graph.add("Probe_Values", value=taste[2])
    host.run(graph).require_ok()
    path = folder / "twice.safetensors"
    saved = lclip.load_taste(path)
    nudged = dataclasses.replace(saved, direction=saved.direction + 1e-6)
    lclip.save_taste(nudged, path)
    host.post("/free", {"unload_models": True, "free_memory": True})
    for _ in range(60):
        result = host.run(graph).require_ok()
        if taste in result.executed:
            break
        time.sleep(0.5)
    assert taste in result.executed
    assert [file.name for file in folder.glob("twice*")] == ["twice.safetensors"]
    assert "learnt from the same latents before" in result.values(report)[0]
    wanted = lclip.TasteReward(load_world().latent_clip, nudged)(sides["fresh"])
    torch.testing.assert_close(torch.tensor(result.values(values)), wanted, atol=1e-6, rtol=0)
    graph.nodes[taste]["inputs"]["regularization"] = "strong"
    host.run(graph).require_ok()
    assert sorted(file.name for file in folder.glob("twice*")) == ["twice.safetensors", "twice_2.safetensors"]


def test_a_wired_file_is_not_read_again_and_none_at_all_is_said_in_words(host, graph, folder, sides):
    folder.mkdir(exist_ok=True)
    lclip.save_taste(
        lclip.train_taste(load_world().latent_clip, sides["liked"], sides["disliked"]),
        folder / "wired.safetensors",
    )
    loader = graph.add("LatentCLIP_MiniWorld")
    name = graph.add("Probe_Text", text="wired.safetensors")
    loaded = graph.add("LatentCLIP_LoadTaste", file=name[0], latent_clip=loader[3], weight=1.0)
    graph.add("Probe_Values", value=loaded[1])
    assert loaded in host.run(graph).require_ok().executed
    assert host.run(graph).require_ok().executed == set()
    del graph.nodes[loaded]["inputs"]["file"]
    error = host.run(graph).error
    assert "positional argument" not in error and "latent_clip_tastes" in error and "refresh" in error


@pytest.mark.parametrize(("rule", "notes", "shows"), [("fit", (), 0), ("crops", (), 1), ("fit", ("few",), 1)])
def test_a_loaded_taste_shows_what_is_odd_about_it(host, graph, world, sides, folder, rule, notes, shows):
    """On the node, in the report and wherever the reward is used; not in the log alone."""
    own = lclip.train_taste(world.latent_clip, sides["liked"], sides["disliked"])
    name = f"odd_{rule}_{len(notes)}.safetensors"
    lclip.save_taste(dataclasses.replace(own, size_rule=rule, notes=notes), folder / name)
    for _ in range(160 + 2 * len(name) + shows):  # no other test has a node of that number
        loader = graph.add("LatentCLIP_MiniWorld")
    node = graph.add("LatentCLIP_LoadTaste", file=name, latent_clip=loader[3], weight=1.0)
    report, picked = graph.add("Probe_Values", value=node[1]), scores(graph, node[0])
    result = host.run(graph).require_ok()
    assert len(result.images(node)) == shows and picked
    (text,) = result.values(report)
    assert ("Caution: the taste" in text) == (rule == "crops") and ("Warning: few" in text) == bool(notes)
