"""The training loop and its losses: deterministic, resumable, and as their formulas say."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lclip.descent import cosine_share
from lclip.mini.train_clip import CONFIG, tokenizer
from lclip.model.latent_clip import LatentCLIP
from lclip.training.loop import FitSettings, fit
from lclip.training.losses import contrastive_loss, distillation_loss, equal_captions
from lclip.training.muon import Muon, orthogonal
from lclip.training.optimizers import OPTIMIZERS, make_optimizers

SETTINGS = FitSettings(steps=12, learning_rate=1e-2, warmup=2, save_every=4)


def problem():
    torch.manual_seed(0)
    module = nn.Linear(3, 1)

    def loss_of(rng):
        x = torch.from_numpy(rng.standard_normal((8, 3), dtype=np.float32))
        return (module(x) - x.sum(1, keepdim=True) + 0.01 * torch.randn(8, 1)).square().mean()

    return module, loss_of


def stopped_after(loss_of, steps):
    calls = iter(range(100))

    def stops(rng):
        if next(calls) == steps:
            raise KeyboardInterrupt
        return loss_of(rng)

    return stops


def unit(*shape, seed=0):
    return nn.functional.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_run_is_the_same_run(optimizer, tmp_path):
    settings = replace(SETTINGS, optimizer=optimizer)
    whole = fit(*problem(), settings, tmp_path / "whole.pt")
    module, loss_of = problem()
    with pytest.raises(KeyboardInterrupt):
        fit(module, stopped_after(loss_of, 6), settings, tmp_path / "part.pt")
    resumed = fit(*problem(), settings, tmp_path / "part.pt")
    assert torch.equal(whole.weight, resumed.weight)


def test_training_learns(tmp_path):
    module, loss_of = problem()
    before = loss_of(np.random.default_rng(0)).item()
    average = fit(module, loss_of, FitSettings(400, 3e-2, warmup=5), tmp_path / "learns.pt")
    assert loss_of(np.random.default_rng(0)).item() < 0.05 * before
    torch.testing.assert_close(average.weight, torch.ones(1, 3), atol=0.1, rtol=0)


def test_the_schedule_warms_up_and_ends_low():
    shares = [cosine_share(step, SETTINGS.steps, SETTINGS.warmup, 0.01) for step in range(12)]
    assert shares[0] < shares[1] == 1.0
    assert shares[2:] == sorted(shares[2:], reverse=True)
    assert shares[-1] < 0.05


def test_a_step_is_what_its_formulas_say(tmp_path):
    """AdamW (arXiv 1711.05101, algorithm 2) with clipping, schedule and average, written down once more."""
    module, loss_of = problem()
    theirs = copy.deepcopy(module)
    average = fit(module, loss_of, SETTINGS, tmp_path / "a.pt")
    values = {name: value.detach().double() for name, value in theirs.named_parameters()}
    kept = {name: value.clone() for name, value in values.items()}
    moments = {name: (torch.zeros_like(value), torch.zeros_like(value)) for name, value in values.items()}
    for step in range(SETTINGS.steps):
        torch.manual_seed(step)
        rng = np.random.default_rng([0, step])
        x = torch.from_numpy(rng.standard_normal((8, 3), dtype=np.float32)).double()
        noise = torch.randn(8, 1).double()
        wanted = {name: value.clone().requires_grad_(True) for name, value in values.items()}
        made = x @ wanted["weight"].T + wanted["bias"]
        loss = (made - x.sum(1, keepdim=True) + 0.01 * noise).square().mean()
        gradients = dict(zip(wanted, torch.autograd.grad(loss, list(wanted.values())), strict=True))
        norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients.values()))
        rate = SETTINGS.learning_rate * (
            (step + 1) / 2 if step < 2 else 0.01 + 0.99 * (1 + math.cos(math.pi * (step - 2) / 10)) / 2
        )
        for name, gradient in gradients.items():
            gradient = gradient * min(1.0, 1.0 / (norm + 1e-6))
            first, second = moments[name]
            first.mul_(0.9).add_(0.1 * gradient)
            second.mul_(0.98).add_(0.02 * gradient**2)
            if values[name].ndim > 1:
                values[name] = values[name] * (1 - rate * 0.01)
            direction = first / (1 - 0.9 ** (step + 1))
            spread = (second / (1 - 0.98 ** (step + 1))).sqrt() + 1e-8
            values[name] = values[name] - rate * direction / spread
            decay = min(0.995, (step + 1) / (step + 10))
            kept[name] = decay * kept[name] + (1 - decay) * values[name]
    for trained, expected in ((average, kept), (module, values)):
        for name, value in trained.named_parameters():
            torch.testing.assert_close(value.double(), expected[name], atol=1e-5, rtol=0)


def test_without_an_average_the_last_weights_are_kept(tmp_path):
    module, loss_of = problem()
    kept = fit(module, loss_of, FitSettings(4, 1e-2, ema_decay=None), tmp_path / "a.pt")
    assert kept is module


def test_frozen_parameters_stay(tmp_path):
    module, loss_of = problem()
    module.bias.requires_grad_(False)
    before = module.bias.clone()
    fit(module, loss_of, SETTINGS, tmp_path / "a.pt")
    assert torch.equal(module.bias, before)


def test_a_loss_that_is_no_number_stops_before_the_weights_are_lost(tmp_path):
    module, loss_of = problem()
    steps = iter(range(100))

    def breaks(rng):
        return loss_of(rng) * (float("nan") if next(steps) == 6 else 1.0)

    with pytest.raises(FloatingPointError, match="step 6"):
        fit(module, breaks, SETTINGS, tmp_path / "a.pt")
    assert bool(torch.isfinite(module.weight).all())
    assert torch.load(tmp_path / "a.pt", weights_only=True)["step"] == 4


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    fit(*problem(), SETTINGS, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"learning_rate 0\.01 \(now 0\.02\)"):
        fit(*problem(), FitSettings(12, 2e-2, warmup=2, save_every=4), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="another model"):
        fit(nn.Linear(4, 1), lambda rng: torch.zeros(()), SETTINGS, tmp_path / "a.pt")


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"learning_rate": 0.0},
        {"warmup": -1},
        {"save_every": 0},
        {"precision": "half"},
        {"optimizer": "lion"},
    ],
)
def test_wrong_settings(wrong):
    with pytest.raises(ValueError, match="expected"):
        FitSettings(**{"steps": 1, "learning_rate": 1.0, **wrong})


def test_bfloat16_computes_coarsely_and_keeps_float32_weights(tmp_path):
    seen = []
    module, _ = problem()

    def loss_of(rng):
        made = module(torch.from_numpy(rng.standard_normal((8, 3), dtype=np.float32)))
        seen.append(made.dtype)
        return made.float().square().mean()

    fit(module, loss_of, FitSettings(2, 1e-2, precision="bfloat16"), tmp_path / "a.pt")
    assert seen == [torch.bfloat16] * 2
    assert module.weight.dtype == torch.float32


def test_contrastive_loss_is_the_papers():
    """Figure 3 of arXiv 2103.00020, in numpy."""
    images, texts, scale = unit(5, 7), unit(5, 7, seed=1), 14.0
    logits = scale * images.double().numpy() @ texts.double().numpy().T

    def cross_entropy(rows):
        return np.mean([np.log(np.exp(row).sum()) - row[i] for i, row in enumerate(rows)])

    expected = (cross_entropy(logits) + cross_entropy(logits.T)) / 2
    got = contrastive_loss(images, texts, torch.tensor(math.log(scale)))
    assert got.item() == pytest.approx(expected, abs=1e-5)


def test_the_logit_scale_ends_at_100():
    images, texts = unit(5, 7), unit(5, 7, seed=1)
    losses = [contrastive_loss(images, texts, torch.tensor(math.log(scale))) for scale in (100.0, 400.0)]
    assert losses[0] == losses[1]


def test_a_caption_that_is_true_of_another_picture_makes_no_negative():
    images, texts, scale = torch.eye(3, 96), torch.eye(3, 96)[[0, 0, 2]], torch.tensor(2.0)
    own = torch.eye(3, dtype=torch.bool)
    both = own.clone()
    both[0, 1] = both[1, 0] = True
    assert contrastive_loss(images, texts, scale, both) < contrastive_loss(images, texts, scale, own)
    assert contrastive_loss(images, texts, scale, own) == contrastive_loss(images, texts, scale)


def test_a_batch_that_says_the_same_twice_has_no_negatives_there():
    """As if the caption of the one had been left out of the other's rows, and the other way."""
    ids = torch.tensor([[1, 5, 2], [1, 7, 2], [1, 5, 2], [1, 9, 2]])
    alike = equal_captions(ids)
    wanted = torch.eye(4, dtype=torch.bool)
    wanted[0, 2] = wanted[2, 0] = True
    assert torch.equal(alike, wanted)
    images, texts = unit(4, 7), unit(4, 7, seed=1)[[0, 1, 0, 3]]
    logits = (images @ texts.T * math.exp(2.0)).double().numpy()
    rows = [np.delete(logits[i], [j for j in range(4) if j != i and wanted[i, j]]) for i in range(4)]
    columns = [np.delete(logits[:, i], [j for j in range(4) if j != i and wanted[i, j]]) for i in range(4)]
    own = [logits[i, i] for i in range(4)]
    expected = np.mean([np.log(np.exp(v).sum()) - o for v, o in zip(rows + columns, own + own, strict=True)])
    got = contrastive_loss(images, texts, torch.tensor(2.0), alike)
    assert got.item() == pytest.approx(expected, abs=1e-5)


def test_autocast_does_not_round_the_logits():
    images, texts, scale = unit(64, 32), unit(64, 32, seed=1), torch.tensor(math.log(100.0))
    plain = contrastive_loss(images, texts, scale)
    with torch.autocast("cpu", torch.bfloat16):
        assert contrastive_loss(images, texts, scale) == plain


def test_distillation_loss_is_half_the_squared_distance():
    student, teacher = unit(6, 9), unit(6, 9, seed=1)
    expected = (student - teacher).square().sum(1).mean() / 2
    torch.testing.assert_close(distillation_loss(student, teacher), expected)
    assert distillation_loss(teacher, teacher).item() == pytest.approx(0, abs=1e-6)


def matrices(seed):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((8, 24), (24, 8), (8, 8))]


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_muon_agrees_with_torchs():
    """torch's own works in bfloat16, so that its updates agree to two digits."""
    ours, theirs, before = (matrices(0) for _ in range(3))
    settings = {"lr": 0.02, "weight_decay": 0.05}
    pair = (
        (ours, Muon(ours, **settings)),
        (theirs, torch.optim.Muon(theirs, **settings, adjust_lr_fn="match_rms_adamw")),
    )
    for step in range(1, 6):
        for parameters, optimizer in pair:
            for parameter, gradient in zip(parameters, matrices(step), strict=True):
                parameter.grad = gradient.detach()
            optimizer.step()
    for mine, reference, start in zip(ours, theirs, before, strict=True):
        moved = reference.detach() - start.detach()
        assert (mine - reference).norm() < 0.05 * moved.norm()


def test_muon_brings_every_singular_value_near_one():
    rows = torch.randn(8, 24, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonal(rows * torch.logspace(-2, 1, 8)[:, None]))
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_muon_takes_the_kernel_of_a_convolution_as_a_matrix():
    gradient = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    kernel, matrix = nn.Parameter(torch.zeros(4, 3, 3, 3)), nn.Parameter(torch.zeros(4, 27))
    optimizer = Muon([kernel, matrix], lr=0.02)
    kernel.grad, matrix.grad = gradient, gradient.flatten(1)
    optimizer.step()
    assert matrix.abs().min() > 0 and torch.equal(kernel.flatten(1), matrix)


def test_muon_refuses_what_is_no_matrix():
    with pytest.raises(ValueError, match="matrices"):
        Muon([nn.Parameter(torch.zeros(3))], lr=0.1)


def test_each_optimizer_gets_what_it_is_for():
    model = LatentCLIP(CONFIG, tokenizer=tokenizer())
    adamw, muon = make_optimizers(model, "muon", 1e-2, fast=("log_logit_scale",))
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    def of(optimizer):
        return {names[id(p)] for group in optimizer.param_groups for p in group["params"]}

    assert of(adamw) | of(muon) == set(names.values())
    assert not of(adamw) & of(muon)
    assert {"token_embedding.weight", "positional_embedding", "log_logit_scale"} <= of(adamw)
    assert all("embedding" in name or model.get_parameter(name).ndim != 2 for name in of(adamw))
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert of(muon) == linear | {"text_projection", "visual.proj"}
    (only,) = make_optimizers(model, "adamw", 1e-2)
    assert of(only) == set(names.values())


class Scaled(nn.Module):
    """Two sets of vectors, and a temperature that alone is trained."""

    def __init__(self, start):
        super().__init__()
        self.inner = nn.ModuleDict({"clip": nn.Module()})
        self.inner["clip"].log_logit_scale = nn.Parameter(torch.tensor(start))

    @property
    def log_scale(self):
        return self.inner["clip"].log_logit_scale


@pytest.mark.parametrize("ema", [None, 0.5])
def test_a_temperature_that_half_precision_rounded_beyond_its_bound_is_still_trained(ema, tmp_path):
    """ln 100 is 4.60517, and in float16 4.6055: outside of the clamp there is no gradient."""
    module = Scaled(float(torch.tensor(math.log(100)).half()))
    assert module.log_scale > math.log(100)
    images, texts = unit(8, 6), unit(8, 6, seed=1)  # unrelated: the best temperature is far below
    settings = FitSettings(steps=20, learning_rate=0.05, warmup=0, ema_decay=ema)
    kept = fit(
        module, lambda rng: contrastive_loss(images, texts, module.log_scale), settings, tmp_path / "a.pt"
    )
    assert module.log_scale < math.log(100) - 0.5
    assert kept.log_scale < math.log(100)


@pytest.mark.parametrize(("start", "sign"), [(4.5, 1), (4.6055, 1), (7.0, 1), (0.1, -1), (-0.3, -1)])
def test_temperatures_stay_from_1_to_100(start, sign, tmp_path):
    module, seen = Scaled(start), []

    def loss_of(rng):
        seen.append(module.log_scale.item())
        return -sign * module.log_scale

    fit(module, loss_of, FitSettings(steps=8, learning_rate=0.5, warmup=0, ema_decay=None), tmp_path / "a.pt")
    ends = (0.0, pytest.approx(math.log(100), abs=1e-6))
    assert module.log_scale.item() == ends[sign > 0]
    assert all(0 <= value <= math.log(100) + 1e-6 for value in seen)


def test_a_frozen_temperature_stays_as_it_is(tmp_path):
    module = Scaled(4.6055)
    module.log_scale.requires_grad_(False)
    module.other = nn.Parameter(torch.ones(2))
    before = module.log_scale.clone()
    fit(module, lambda rng: module.other.square().sum(), SETTINGS, tmp_path / "a.pt")
    assert torch.equal(module.log_scale, before)
