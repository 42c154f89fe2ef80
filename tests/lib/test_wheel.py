"""The wheel, installed into an environment that has nothing else of this project."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from published import ROOT, tracked_files


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder with the commands of a fresh environment, into which the wheel was installed."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    if subprocess.run([*pip, "--version"], capture_output=True).returncode:
        pytest.skip("this Python has no pip")
    source = folder / "source"  # building leaves files behind
    for name in tracked_files("lclip", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run([*pip, *build], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    commands = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    (own,) = (folder / "venv").glob("[Ll]ib/**/site-packages")
    # What the library needs comes from this environment; what a .pth there names (this checkout) does not.
    others = [path for path in sys.path if path.endswith("site-packages")]
    (own / "others.pth").write_text("\n".join(others), "utf-8")
    install = ["install", "--quiet", "--no-deps", "--force-reinstall", str(wheel)]
    python = str(commands / ("python.exe" if sys.platform == "win32" else "python"))
    subprocess.run([*pip, "--python", python, *install], check=True, capture_output=True)
    return commands


def said(installed: Path, name: str, *arguments: str) -> str:
    """What a command of that environment prints, started where this checkout is not."""
    answer = subprocess.run(
        [str(installed / name), *arguments], cwd=installed.parent, capture_output=True, text=True, timeout=300
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_the_library_is_the_installed_one_and_works(installed):
    code = "import lclip, lclip.mini; print(lclip.__file__, lclip.mini.load_world().latent_clip.config.grid)"
    file, grid = said(installed, "python", "-c", code).split()
    assert Path(file).is_relative_to(installed.parent)
    assert grid == "8"


def test_the_command_is_there_and_does_its_work(installed, tmp_path):
    assert "evaluate" in said(installed, "lclip", "--help")
    said(
        installed,
        "lclip",
        "explore",
        "--mini",
        "--prompt",
        "a red star",
        "--cells",
        "2",
        "--out",
        str(tmp_path / "map.html"),
    )
    assert (tmp_path / "map.html").stat().st_size > 10_000


def test_it_holds_the_library_alone(installed):
    (wheel,) = installed.parent.parent.glob("*.whl")
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"lclip"}
