"""Tier 2: the pack in a real ComfyUI, as a real server on this machine.

Hosts are the checkouts named by COMFYUI_PATH (several, separated as in PATH; each may hold venv/bin/python),
or the ComfyUI whose custom_nodes this repository stands in. COMFYUI_ARGS replaces the default argument --cpu.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reno_bench import save_clip
from workflow_canvas import HOST as WRITTEN_FOR

from benchmarks.hosts import ROOT, named_checkouts, version_of
from benchmarks.server import Graph, Host

NO_HOST = "NO COMFYUI HERE: the tests in a real host are SKIPPED. Set COMFYUI_PATH to one or more checkouts."


def find_hosts() -> list[Path]:
    named = named_checkouts()
    for path in named:
        if not (path / "main.py").is_file():
            raise pytest.UsageError(
                f"COMFYUI_PATH names {path}, but there is no main.py; name ComfyUI checkouts"
            )
    if not named and ROOT.parent.name == "custom_nodes" and (ROOT.parent.parent / "main.py").is_file():
        return [ROOT.parent.parent]
    return [path.resolve() for path in named]


HOSTS = find_hosts()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not HOSTS:
        terminalreporter.section("tier 2")
        terminalreporter.write_line(NO_HOST, red=True, bold=True)


@pytest.fixture(scope="session", params=HOSTS or [None], ids=lambda path: path.name if path else "no-host")
def checkout(request: pytest.FixtureRequest) -> Path:
    """Each ComfyUI in turn."""
    if request.param is None:
        pytest.skip(NO_HOST)
    return request.param


def by_age() -> list[Path]:
    """The hosts, the oldest first."""
    return sorted(HOSTS, key=lambda path: tuple(map(int, re.findall(r"\d+", version_of(path)))))


@pytest.fixture(scope="session")
def newest() -> Path | None:
    """The newest ComfyUI, for what one host is enough for."""
    return (by_age() or [None])[-1]


@pytest.fixture(scope="session")
def outermost() -> set[Path]:
    """The oldest and the newest ComfyUI, for what would take long in those between."""
    return {*by_age()[:1], *by_age()[-1:]}


@pytest.fixture(scope="session")
def new_host() -> type[Host]:
    """For tests that start a server of their own."""
    return Host


@pytest.fixture(scope="session")
def host(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A running server, one per checkout and session."""
    server = Host(checkout, tmp_path_factory.mktemp(checkout.name.replace(".", "_")))
    try:
        with server:
            yield server
    finally:
        if "COMFYUI_KEEP" not in os.environ:
            shutil.rmtree(server.base, ignore_errors=True)


@pytest.fixture(scope="session")
def sdxl_clip(host: Host) -> str:
    """The file of a small Latent-CLIP for SDXL latents, in the model folder."""
    return save_clip(host.models)


@pytest.fixture(scope="session")
def definitions(host: Host) -> dict[str, Any]:
    """The node definitions of the host whose version workflows and blueprints are written for."""
    version = host.get("/system_stats")["system"]["comfyui_version"].lstrip("v")
    if version != WRITTEN_FOR["ver"]:
        pytest.skip(f"the files are written by the definitions of {WRITTEN_FOR['ver']}, this is {version}")
    return host.object_info


@pytest.fixture(scope="session")
def new_graph() -> type[Graph]:
    """For tests that need more than one."""
    return Graph


@pytest.fixture
def graph() -> Graph:
    return Graph()
