"""ComfyUI started in other ways: by each flag about memory and precision, and with folders that are links."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from test_workflows import pictures, run

from benchmarks.hosts import ROOT
from lclip.mini.drawing import render_batch, sample_scenes

NAME, TITLE = "Mini 1 Score and choose", "The chosen two"
FLAGS = ("--lowvram", "--novram", "--gpu-only", "--force-fp16")
NO_GPU = re.compile(r"^(?:AssertionError|RuntimeError): .*(?:CUDA|NVIDIA|XPU).*$", re.MULTILINE)
WEIGHTS = ROOT / "lclip" / "mini" / "weights"


def chosen(host, graph) -> list[numpy.ndarray]:
    """What the mini workflow chooses of its eight pictures, and what it saves of them."""
    workflow, result = run(host, graph, NAME)
    return pictures(result, workflow, TITLE)


@pytest.fixture(scope="module")
def plain(host, new_graph) -> list[numpy.ndarray]:
    return chosen(host, new_graph())


def start_or_skip(server) -> None:
    """Start; where there is no GPU and the host stops for that reason, the test skips with its words."""
    try:
        server.start()
    except RuntimeError as error:
        if torch.cuda.is_available() or not (said := NO_GPU.findall(str(error))):
            raise
        pytest.skip(f"ComfyUI itself stops here: {said[-1]}")


@pytest.mark.parametrize("flag", FLAGS)
def test_a_mini_workflow_chooses_the_same_whatever_flag_the_host_has(
    checkout, newest, new_host, new_graph, plain, tmp_path, flag
):
    """--cpu, which excludes the first three, is what the other tests start with where there is no GPU."""
    if checkout != newest:
        pytest.skip("one host is enough: the newest")
    server = new_host(checkout, tmp_path, arguments=[flag])
    try:
        start_or_skip(server)
        found = chosen(server, new_graph())
    finally:
        server.stop()
        shutil.rmtree(tmp_path, ignore_errors=True)
    assert len(found) == len(plain) == 2
    for one, other in zip(found, plain, strict=True):
        difference = numpy.abs(one.astype(int) - other)
        assert difference.mean() < 1 and difference.max() <= 16  # of 255: another precision, the same picture


@pytest.fixture(scope="module")
def linked(checkout, new_host, tmp_path_factory) -> Iterator:
    """A host whose pack, input folder, a folder in that, and model folder are links; the pack's to a link."""
    base, far = tmp_path_factory.mktemp("links"), tmp_path_factory.mktemp("far")
    for name in ("input", "models/latent_clip", "scenes-by-link"):
        (far / name).mkdir(parents=True)
    (far / "pack").symlink_to(ROOT, target_is_directory=True)
    (base / "models").mkdir()
    for name in ("input", "models/latent_clip"):
        (base / name).symlink_to(far / name, target_is_directory=True)
    (far / "input" / "scenes-by-link").symlink_to(far / "scenes-by-link", target_is_directory=True)
    try:
        with new_host(checkout, base, packs={"by-link": far / "pack"}) as server:
            yield server
    finally:
        for folder in (base, far):
            shutil.rmtree(folder, ignore_errors=True)


def draw_scenes(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for index, picture in enumerate(render_batch(sample_scenes(8, 5, split="train"))):
        Image.fromarray(picture).save(folder / f"{index:03}.png")


def test_a_pack_that_is_a_link_runs_a_mini_workflow_as_any_other(linked, new_graph, plain):
    """What the pack serves is there too: its templates, its help, its texts."""
    for one, other in zip(chosen(linked, new_graph()), plain, strict=True):
        assert (one == other).all()
    assert set(linked.get("/workflow_templates")["by-link"]) == {
        p.stem for p in ROOT.glob("workflows/*.json")
    }
    assert "LatentCLIP_Score" in linked.get("/i18n")["zh"]["nodeDefs"]
    assert linked.fetch("/extensions/by-link/docs/LatentCLIP_Score.md").decode().startswith("# ")


def learnt(host, graph) -> str:
    """What an adapter reports that learns from pictures in the input folder, without its time and place."""
    file = host.models / "mini.safetensors"
    file.write_bytes((WEIGHTS / "latent_clip.safetensors").read_bytes())
    world, twin = graph.add("LatentCLIP_MiniWorld"), graph.add("LatentCLIP_MiniTwin")
    judge = graph.add("LatentCLIP_Load", file=file.name, dtype="auto")
    adapter = graph.add(
        "LatentCLIP_TrainAdapter", latent_clip=judge[0], vae=twin[2], own_vae=world[2], latents="auto",
        save_as="by-link", steps=10, seed=0, folder="scenes-by-link", custom_side=False, side=8, batch=4,
    )  # fmt: skip
    report = graph.add("Probe_Values", value=adapter[3])
    (text,) = host.run(graph).require_ok().values(report)
    text = text.rsplit("latent_clip_adapters", 1)[0].removesuffix(str(host.base / "models") + "/")
    return re.sub(r"in \d+ s\b", "in time", text)


def test_input_and_model_folders_that_are_links_are_read_as_any_others(linked, host, new_graph):
    for each in (linked, host):
        draw_scenes(each.input / "scenes-by-link")
    assert (linked.input / "scenes-by-link").is_symlink() and not (host.input / "scenes-by-link").is_symlink()
    assert learnt(linked, new_graph()) == learnt(host, new_graph())


def test_checkpoints_are_found_in_the_folder_of_models_directory(checkout, new_host, tmp_path):
    """Since 0.33 or before: a folder in the place of the host's own models/."""
    if "--models-directory" not in (checkout / "comfy" / "cli_args.py").read_text(encoding="utf-8"):
        pytest.skip("this host knows no --models-directory")
    far = tmp_path / "far away"
    (far / "latent_clip" / "sub").mkdir(parents=True)
    shutil.copyfile(WEIGHTS / "latent_clip.safetensors", far / "latent_clip" / "sub" / "model.safetensors")
    try:
        with new_host(checkout, tmp_path / "base", arguments=["--models-directory", str(far)]) as server:
            kind, options = server.object_info["LatentCLIP_Load"]["input"]["required"]["file"]
            listed = kind if isinstance(kind, list) else options["options"]
    finally:
        shutil.rmtree(tmp_path, ignore_errors=True)
    assert [Path(name).as_posix() for name in listed] == ["sub/model.safetensors"]
