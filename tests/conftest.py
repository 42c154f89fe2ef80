"""Shared by both tiers: the root is no package to pytest, and every test starts from the same seed."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from benchmarks.hosts import named_checkouts

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=25, print_blob=True)
settings.load_profile("repeatable")


class _RootIsAPlainFolder:
    """The root's __init__.py is the entry point of a ComfyUI pack; pytest would import it as a package."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector):
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_configure(config: pytest.Config):
    # Registered by hand: a conftest's own hooks are not asked about the folders above it.
    config.pluginmanager.register(_RootIsAPlainFolder(), "latent-clip-root")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any):
    """Of several workers one has all of a host, whose server is started once, or all of a file."""
    from xdist.scheduler import LoadScopeScheduling

    hosts = [path.name for path in named_checkouts()]

    class ByHostOrFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, case = nodeid.partition("::")
            parts = re.split(r"[\[\]]", case)[1:2]
            return next((host for host in hosts if parts and f"{parts[0]}-".startswith(f"{host}-")), file)

    return ByHostOrFile(config, log)


@pytest.fixture(autouse=True)
def _same_seed():
    torch.manual_seed(0)
    yield


@pytest.fixture(autouse=True)
def _gradients_stay_switched_on():
    """A test that leaves autograd switched off would make the next gradient test pass or fail by order."""
    yield
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
