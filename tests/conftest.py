"""Shared by both tiers: every test starts from the same seed, and no test depends on the machine's speed."""

import pytest
import torch
from hypothesis import settings

settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=25, print_blob=True)
settings.load_profile("repeatable")


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
