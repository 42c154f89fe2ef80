"""Files in models/latent_clip: what is listed, what loads, and what a broken one says."""

from __future__ import annotations

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file

import lclip
from lclip.mini.world import WEIGHTS

GOOD = WEIGHTS / "latent_clip.safetensors"


@pytest.fixture(scope="module", autouse=True)
def files(host):
    """Good and bad files; the combo lists those with a known suffix."""
    weights = load_file(GOOD)
    host.models.joinpath("good.safetensors").write_bytes(GOOD.read_bytes())
    host.models.joinpath("deep").mkdir(exist_ok=True)
    host.models.joinpath("deep", "good.sft").write_bytes(GOOD.read_bytes())
    host.models.joinpath("notes.txt").write_text("not a model")
    host.models.joinpath("empty.pt").write_bytes(b"")
    host.models.joinpath("page.ckpt").write_text("<!DOCTYPE html><html>not found</html>")
    host.models.joinpath("cut.safetensors").write_bytes(GOOD.read_bytes()[:40_000])
    save_file({"other.weight": torch.zeros(3)}, host.models / "other.safetensors")
    torch.save(
        {"state_dict": {f"module.{k}": v.float() for k, v in sdxl_shaped().items()}}, host.models / "sdxl.pt"
    )
    torch.save({"state_dict": weights, "optimizer": Evil()}, host.models / "evil.pth")
    numpy.savez(host.input / "loading.npz", samples=torch.randn(2, 4, 8, 8).numpy() * 6)
    return host.models


class Evil:
    """A pickle that would write a file when it is read without care."""

    def __reduce__(self):
        return (open, ("/tmp/latent-clip-was-here", "w"))


def sdxl_shaped() -> dict[str, torch.Tensor]:
    """A small random checkpoint without our metadata: taken for one of SDXL's, with CLIP's tokenizer."""
    config = lclip.LatentCLIPConfig(
        embed_dim=32, channels=4, patch_size=2, grid=4, vision_width=64, vision_layers=1, vision_heads=1,
        text_width=64, text_layers=1, text_heads=1, context_length=77, vocab_size=49408,
    )  # fmt: skip
    return lclip.LatentCLIP(config).state_dict()


def score_with(graph, file: str, dtype: str = "auto"):
    loader = graph.add("LatentCLIP_Load", file=file, dtype=dtype)
    latent = graph.add("Probe_ReadLatent", name="loading")
    inputs = {"text": "a red circle"}
    node = graph.add("LatentCLIP_Score", latent_clip=loader[0], latent=latent[0], **inputs)
    return graph.add("Probe_Values", value=node[2])


def latents(host) -> torch.Tensor:
    return torch.from_numpy(numpy.load(host.input / "loading.npz")["samples"])


def listing(host) -> list[str]:
    combo = host.get("/object_info/LatentCLIP_Load")["LatentCLIP_Load"]["input"]["required"]["file"]
    return combo[0] if isinstance(combo[0], list) else combo[1]["options"]


def test_only_loadable_files_are_listed(host):
    listed = listing(host)
    assert {"good.safetensors", "cut.safetensors", "empty.pt", "page.ckpt"} <= set(listed)
    assert "notes.txt" not in listed
    assert any(name.replace("\\", "/") == "deep/good.sft" for name in listed)


def test_extra_model_paths_are_searched_with_the_same_suffixes(host, graph):
    host.elsewhere.joinpath("far.safetensors").write_bytes(GOOD.read_bytes())
    host.elsewhere.joinpath("far.txt").write_text("not a model")
    listed = listing(host)
    assert "far.safetensors" in listed and "far.txt" not in listed
    score_with(graph, "far.safetensors")
    host.run(graph).require_ok()


@pytest.mark.parametrize(
    ("dtype", "close"), [("auto", 1e-5), ("float32", 1e-5), ("float16", 1e-5), ("bfloat16", 0.02)]
)
def test_a_loaded_file_scores_as_the_library_does(host, graph, dtype, close):
    """The shipped file holds float16, so keeping it in float16 changes nothing: the maths runs in float32."""
    scores = score_with(graph, "good.safetensors", dtype)
    result = host.run(graph).require_ok()
    wanted = lclip.similarity(lclip.load(GOOD), latents(host), "a red circle")[:, 0]
    torch.testing.assert_close(torch.tensor(result.values(scores)), wanted, atol=close, rtol=0)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("empty.pt", "empty"),
        ("page.ckpt", "HTML"),
        ("cut.safetensors", "truncated"),
        ("other.safetensors", "not a Latent-CLIP"),
        ("evil.pth", "evil.pth"),
    ],
)
def test_a_bad_file_is_explained_in_the_browser(host, graph, file, said, tmp_path):
    score_with(graph, file)
    result = host.run(graph)
    assert not result.ok and said in result.error and file in result.error
    assert result.messages["execution_error"]["node_type"] == "LatentCLIP_Load"


def test_a_hostile_pickle_runs_nothing(host, graph, tmp_path_factory):
    from pathlib import Path

    mark = Path("/tmp/latent-clip-was-here")
    mark.unlink(missing_ok=True)
    score_with(graph, "evil.pth")
    assert host.run(graph).error
    assert not mark.exists()


def test_the_hosts_vocabulary_serves_clips_tokenizer(host, graph):
    """No download and no option: a checkpoint with CLIP's own tokenizer finds it inside the host."""
    scores = score_with(graph, "sdxl.pt")
    result = host.run(graph).require_ok()
    model = lclip.load(host.models / "sdxl.pt")
    model_ids = clip_ids(host, "a red circle")
    with torch.no_grad():
        text = model.encode_tokens(model_ids)
    wanted = (model.encode_latents(latents(host)) @ text.T)[:, 0]
    close = 1e-5 if host.on_cpu else 1e-3  # a GPU keeps the weights in half precision
    torch.testing.assert_close(torch.tensor(result.values(scores)), wanted, atol=close, rtol=0)


def clip_ids(host, text: str) -> torch.Tensor:
    """By the host's own vocabulary file: these words are whole tokens."""
    import json

    vocabulary = json.loads((host.checkout / "comfy/sd1_tokenizer/vocab.json").read_text(encoding="utf-8"))
    ids = [vocabulary[f"{word}</w>"] for word in text.split()]
    row = [vocabulary["<|startoftext|>"], *ids, vocabulary["<|endoftext|>"]]
    return torch.tensor([row + [0] * (77 - len(row))])


def test_a_file_that_changes_on_disk_is_loaded_again(host, graph):
    target = host.models / "changing.safetensors"
    target.write_bytes(GOOD.read_bytes())
    host.get("/object_info/LatentCLIP_Load")
    scores = score_with(graph, "changing.safetensors")
    first = host.run(graph).require_ok().values(scores)
    model = lclip.load(GOOD)
    with torch.no_grad():
        model.visual.proj.copy_(model.visual.proj.flip(1))
    lclip.save_checkpoint(model, target)
    result = host.run(graph).require_ok()
    wanted = lclip.similarity(model, latents(host), "a red circle")[:, 0]
    torch.testing.assert_close(torch.tensor(result.values(scores)), wanted, atol=1e-5, rtol=0)
    assert first != result.values(scores)


def test_a_name_that_is_not_there_is_refused(host, graph):
    score_with(graph, "nowhere.pt")
    assert "nowhere.pt" in host.run(graph).error


def test_video_or_wrong_channels_name_the_models_space(host, graph):
    numpy.savez(host.input / "flux.npz", samples=numpy.ones((1, 16, 8, 8), numpy.float32))
    score_with(graph, "good.safetensors")
    reader = next(name for name, node in graph.nodes.items() if node["class_type"] == "Probe_ReadLatent")
    graph.nodes[reader]["inputs"]["name"] = "flux"
    error = host.run(graph).error
    assert "16 channels" in error and "mini world" in error


def test_a_wired_name_is_not_loaded_again_at_every_queue(host, graph):
    """The host hands a wired widget to a node's checks as None."""
    name = graph.add("Probe_Text", text="good.safetensors")
    loader = graph.add("LatentCLIP_Load", file=name[0], dtype="auto")
    latent = graph.add("Probe_ReadLatent", name="loading")
    node = graph.add("LatentCLIP_Score", latent_clip=loader[0], latent=latent[0], text="a ring")
    graph.add("Probe_Values", value=node[2])
    assert loader in host.run(graph).require_ok().executed
    assert host.run(graph).require_ok().executed == set()


@pytest.mark.parametrize("value", ["nothing", None, ""])
def test_a_loader_without_a_file_is_told_what_to_do(host, graph, value):
    """As it stands on a canvas whose folder is empty: the browser leaves the widget out, or sends nothing."""
    score_with(graph, "good.safetensors")
    loader = next(name for name, node in graph.nodes.items() if node["class_type"] == "LatentCLIP_Load")
    if value == "nothing":
        del graph.nodes[loader]["inputs"]["file"]
    else:
        graph.nodes[loader]["inputs"]["file"] = value
    error = host.run(graph).error
    assert "positional argument" not in error and "NoneType" not in error
    assert "latent_clip" in error and "refresh the browser" in error
