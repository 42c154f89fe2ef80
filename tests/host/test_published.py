"""The published archive in a real host, under hard conditions: its folder is read-only and has spaces and
dashes in its name; another folder of the same name, and a copy under another name, are there too."""

from __future__ import annotations

import json
import shutil
import stat
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

import pytest
import torch
from published import ROOT, write_archive
from safetensors.torch import save_file
from test_registration import SOCKETS
from test_workflows import add_to, pictures

FOLDER, COPY = "Latent-CLIP 0.1 - from the site", "another copy"
MINI = "lclip/mini/weights/latent_clip.safetensors"


def content(folder: Path) -> dict[str, bytes]:
    """Every file but Python's own caches."""
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def make_read_only(folder: Path, forbid: bool) -> None:
    for path in [folder, *folder.rglob("*")]:
        mode = path.stat().st_mode
        path.chmod(mode & ~0o222 if forbid else mode | stat.S_IWUSR)


@pytest.fixture(scope="module")
def unzipped(checkout, new_host, tmp_path_factory):
    """A server that has the archive three times, and nothing else of this checkout."""
    base = tmp_path_factory.mktemp("published")
    archive = write_archive(base / "pack.zip")
    folders = [base / "custom_nodes" / FOLDER, base / "more_nodes" / FOLDER, base / "custom_nodes" / COPY]
    for folder in folders:
        with zipfile.ZipFile(archive) as content_of_archive:
            content_of_archive.extractall(folder)
    for place in ("models/latent_clip/sub", "outside"):
        (base / place).mkdir(parents=True)
        (base / place / "model.safetensors").write_bytes((ROOT / MINI).read_bytes())
    tastes = base / "models" / "latent_clip_tastes" / "sub"
    tastes.mkdir(parents=True)
    save_file({"weight": torch.ones(1, 96), "bias": torch.zeros(1)}, tastes / "head.safetensors")
    before = content(folders[0])
    make_read_only(folders[0], forbid=True)
    try:
        with new_host(checkout, base, packs={FOLDER: folders[0], COPY: folders[2]}) as server:
            yield server, folders, before
    finally:
        make_read_only(folders[0], forbid=False)
        shutil.rmtree(base, ignore_errors=True)


def test_all_are_loaded_and_every_node_is_there(unzipped):
    host, folders, _ = unzipped
    assert set(host.object_info) >= {*SOCKETS, "LatentCLIP_TrainTaste", "LatentCLIP_LoadTaste"}
    log = host.log.read_text(errors="replace")
    for folder in folders:
        (line,) = [line for line in log.splitlines() if line.endswith(str(folder)) and "seconds" in line]
        assert "FAILED" not in line
        assert f"entrypoint in {folder}" not in log and f"Cannot import {folder}" not in log


def test_a_workflow_of_the_archive_runs_as_in_a_pack_that_is_a_link(unzipped, host, new_graph):
    """The hosts of the other tests have the pack by a link; here it is a folder."""
    server, folders, _ = unzipped
    path = next(iter(sorted(folders[0].glob("workflows/Mini 1*.json"))))
    workflow = json.loads(path.read_text(encoding="utf-8"))
    saved = []
    for each in (server, host):
        graph = new_graph()
        add_to(graph, workflow, each.object_info)
        saved.append(pictures(each.run(graph).require_ok(), workflow, "The chosen two"))
    assert len(saved[0]) == 2 and all((one == other).all() for one, other in zip(*saved, strict=True))


def test_help_and_templates_are_served(unzipped):
    host, folders, _ = unzipped
    assert FOLDER in host.get("/workflow_templates")
    page = next(folders[0].glob("web/docs/*.md"))
    place = urllib.parse.quote(f"/extensions/{FOLDER}/docs/{page.name}")
    with urllib.request.urlopen(f"http://127.0.0.1:{host.port}{place}", timeout=60) as reply:
        assert reply.read().decode() == page.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["sub/{}", "sub\\{}"])
def test_names_are_read_as_either_system_writes_them(unzipped, graph, name):
    """A workflow that was saved on Windows names "sub\\model.safetensors"."""
    host, _, _ = unzipped
    model = graph.add("LatentCLIP_Load", file=name.format("model.safetensors"), dtype="auto")
    taste = graph.add(
        "LatentCLIP_LoadTaste", file=name.format("head.safetensors"), latent_clip=model[0], weight=1.0
    )
    graph.add("Probe_Values", value=taste[1])
    host.run(graph).require_ok()


@pytest.mark.parametrize("name", ["nowhere.safetensors", "..\\..\\outside\\model.safetensors", ""])
def test_other_names_are_refused_before_anything_runs(unzipped, graph, name):
    host, _, _ = unzipped
    model = graph.add("LatentCLIP_Load", file=name, dtype="auto")
    text = graph.add("LatentCLIP_TextReward", latent_clip=model[0], text="a red star", weight=1.0)
    graph.add("Probe_Values", value=text[0])
    result = host.run(graph)
    assert result.refused is not None and "Put the checkpoint there" in result.error


def test_nothing_was_written_into_the_pack(unzipped):
    """After all of the above; a system that enforces the mode bits would have stopped it."""
    _, folders, before = unzipped
    assert content(folders[0]) == before
