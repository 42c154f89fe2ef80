"""Shared by both tiers: the root is no package to pytest, and every test starts from the same seed."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

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
