"""`make lint` finds names that a ComfyUI does not have, without a network and without running it."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest
from published import ROOT

pytest.importorskip("comfy_import_guard")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("host_imports", ROOT / "release" / "host_imports.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    """A ComfyUI with one function, as git knows it."""
    folder = tmp_path / "host"
    (folder / "comfy").mkdir(parents=True)
    (folder / "comfy" / "utils.py").write_text("def common_upscale(samples, width): ...\n")
    git = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@x.x"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    return folder


@pytest.mark.parametrize(
    "line, good",
    [
        ("comfy.utils.common_upscale(1, 2)", True),
        ("comfy.utils.uncommon_upscale(1, 2)", False),
        ("comfy.utils.common_upscale(1, 2, crop=3)", False),
    ],
)
def test_names_and_calls_that_the_host_lacks_are_told(script, comfyui, tmp_path, line, good):
    nodes = tmp_path / "nodes"
    nodes.mkdir()
    (nodes / "a.py").write_text(f"import comfy.utils\n\n\ndef f():\n    return {line}\n")
    found, report = script.check(comfyui, nodes)
    assert found is good and (good or "comfy.utils" in report), report


def test_where_no_comfyui_is_it_says_so(script, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    assert script.main() == 0
    assert "NOT checked" in capsys.readouterr().out
