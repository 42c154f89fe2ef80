"""The learning rate's course and the average of the weights, against torch's own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from lclip.descent import WeightAverage, cosine_share


@given(steps=st.integers(2, 60), warmup=st.integers(1, 20), least=st.sampled_from((0.0, 0.01, 0.02, 0.5)))
def test_the_course_is_torchs_warmup_and_cosine(steps, warmup, least):
    warmup = min(warmup, steps - 1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    parts = [
        LinearLR(optimizer, 1 / warmup, total_iters=warmup - 1),
        CosineAnnealingLR(optimizer, steps - warmup, eta_min=least),
    ]
    schedule = SequentialLR(optimizer, parts, [warmup])
    for step in range(steps):
        (rate,) = schedule.get_last_lr()
        assert cosine_share(step, steps, warmup, least) == pytest.approx(rate, abs=1e-9)
        optimizer.step()
        schedule.step()


def test_without_a_warmup_it_begins_at_the_peak_and_ends_at_the_least():
    assert cosine_share(0, 10, 0, 0.1) == 1.0
    assert cosine_share(10, 10, 0, 0.1) == pytest.approx(0.1)
    assert cosine_share(3, 4, 8, 0.1) == 0.5  # a run that ends while it warms up


@given(decay=st.floats(0, 1), steps=st.integers(1, 30))
def test_the_average_is_its_formula(decay, steps):
    torch.manual_seed(steps)
    module = torch.nn.Linear(2, 1).double()
    average = WeightAverage(module, decay)
    expected = module.weight.detach().clone()
    for step in range(steps):
        with torch.no_grad():
            module.weight += torch.randn(1, 2)
        share = min(decay, (step + 1) / (step + 10))
        expected = share * expected + (1 - share) * module.weight.detach()
        average.update(module, step)
    torch.testing.assert_close(average.module.weight, expected, rtol=1e-9, atol=1e-9)
    assert not average.module.weight.requires_grad and module.weight.requires_grad
