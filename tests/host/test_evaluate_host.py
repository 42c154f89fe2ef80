"""`python -m lclip evaluate` with a running ComfyUI as what makes the pictures."""

from __future__ import annotations

import json

import numpy
import pytest
import torch
from PIL import Image
from reno_bench import STATIC

from lclip.commands import main
from lclip.evaluation.comfyui import ComfyMaker
from lclip.mini.world import WEIGHTS, load_latent_clip


def workflow(graph, reno=False, prompt="{prompt}"):
    loader = graph.add("LatentCLIP_MiniWorld")
    positive = graph.add("CLIPTextEncode", clip=loader[1], text=prompt)
    empty = graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)
    inputs = {
        "model": loader[0], "positive": positive[0], "negative": positive[0], "latent_image": empty[0],
        "seed": 0, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
    }  # fmt: skip
    if reno:
        reward = graph.add("LatentCLIP_TextReward", latent_clip=loader[3], text=prompt, weight=1.0)
        latent = graph.add("LatentCLIP_ReNO", **{**inputs, **STATIC}, reward=reward[0])
    else:
        latent = graph.add("KSampler", **inputs)
    pixels = graph.add("VAEDecode", samples=latent[0], vae=loader[2])
    graph.add("SaveImage", images=pixels[0], filename_prefix="evaluated")
    graph.add("SaveLatent", samples=latent[0], filename_prefix="latents/evaluated")
    return graph.nodes


def test_geneval_by_a_running_host(host, new_graph, tmp_path, capsys):
    files = {}
    for name in ("plain", "reno"):
        files[name] = tmp_path / f"{name}.json"
        files[name].write_text(json.dumps(workflow(new_graph(), name == "reno")))
    prompts = tmp_path / "prompts.jsonl"
    lines = [{"tag": "x", "prompt": f"a large {colour} star"} for colour in ("red", "blue")]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out, model = tmp_path / "out", WEIGHTS / "latent_clip.safetensors"
    command = ["evaluate", "geneval", "--model", model, "--comfyui", f"http://127.0.0.1:{host.port}", prompts]
    command += ["--out", out, "--quiet", "--device", "cpu", "--samples", "1"]
    command += [word for name, path in files.items() for word in ("--workflow", f"{name}={path}")]
    assert main([*map(str, command)]) == 0, capsys.readouterr().err
    rows = [json.loads(line) for line in (out / "geneval.jsonl").open()]
    clip = load_latent_clip()
    cosines = {(row["variant"], row["prompt"]): row["cosine"] for row in rows}
    seeds = {(row["variant"], row["prompt"]): row["seed"] for row in rows}
    assert len(cosines) == 4 and len(set(seeds.values())) == 2
    for place, line in enumerate(lines):
        assert cosines["reno", place] >= cosines["plain", place] - 1e-4
        graph = new_graph()
        graph.nodes = json.loads(json.dumps(workflow(graph, prompt=line["prompt"])))
        graph.nodes["4"]["inputs"]["seed"] = seeds["plain", place]
        result = host.run(graph)
        (picture,) = result.images("6")
        kept = out / "geneval" / "plain" / f"{place:05}" / "samples" / "00000.png"
        assert numpy.array_equal(numpy.asarray(Image.open(kept)), numpy.asarray(Image.open(picture)))
    assert clip.config.latent_space == "mini"
    about = json.loads((out / "results.json").read_text())["tasks"][0]["about"]
    version = host.get("/system_stats")["system"]["comfyui_version"]
    assert about["comfyui"] == version and set(about["workflows"]) == {"plain", "reno"}


def test_what_the_host_refuses_is_said(host, new_graph):
    address = f"http://127.0.0.1:{host.port}"
    nodes = workflow(new_graph())
    maker = ComfyMaker(address, {"plain": nodes})
    made = maker.make("plain", "a red star", 3)
    assert made.latents is not None and made.latents.shape == (4, 8, 8)
    again = maker.make("plain", "a red star", 3)
    assert torch.equal(made.latents, again.latents)
    missing = json.loads(json.dumps(nodes))
    missing["4"]["inputs"].pop("model")
    with pytest.raises(ValueError, match="ComfyUI refuses /prompt: .*KSampler"):
        ComfyMaker(address, {"plain": missing}).make("plain", "a", 0)
    broken = json.loads(json.dumps(nodes))
    broken["3"]["inputs"] |= {"width": 32}
    with pytest.raises(ValueError, match="ComfyUI: KSampler: .*64x64"):
        ComfyMaker(address, {"plain": broken}).make("plain", "a", 0)
