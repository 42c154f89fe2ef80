"""Large batches in several passes: no more memory than one pass may take, and the same answers."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from peak_memory import counted
from tiny import random_model, tiny_config

import lclip
from lclip.model import passes

WORDS = ["a", "red", "circle", "skull", "mushroom"]
CONFIG = tiny_config(WORDS, embed_dim=16, width=32, layers=2, heads=2)
ONE = passes.pass_bytes(tokens=17, width=32)  # of an item of the native size, 8x8 cells in patches of 2


@pytest.fixture
def model():
    return random_model(CONFIG, WORDS)


def latents(batch, size=8):
    return 6 * torch.randn(batch, 4, size, size, generator=torch.Generator().manual_seed(1))


def sizes_seen(model):
    """The batches that the image tower is given, from now on."""
    seen = []
    model.visual.conv1.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    return seen


@pytest.mark.parametrize("free", [0, 2 * ONE, 14 * ONE, 20 * ONE, 10**15])
@pytest.mark.parametrize("method", ["embedding", "heatmap"])
def test_passes_fit_into_half_of_what_is_free_and_give_what_one_gives(model, free, method):
    run = model.encode_latents if method == "embedding" else model.patch_embeddings
    z = latents(10)
    whole, seen = run(z), sizes_seen(model)
    model.free_bytes = lambda: free
    torch.testing.assert_close(run(z), whole, atol=1e-6, rtol=1e-5)
    assert sum(seen) == 10 and max(seen) == min(10, max(1, free // (2 * ONE)))


@pytest.mark.parametrize("rule", [*lclip.SIZE_RULES])
def test_an_item_of_several_windows_takes_several_places(model, rule):
    z, seen = latents(6, size=16), sizes_seen(model)
    whole = model.encode_latents(z, rule)
    windows = sum(seen)
    seen.clear()
    model.free_bytes = lambda: 2 * 4 * ONE
    torch.testing.assert_close(model.encode_latents(z, rule), whole, atol=1e-6, rtol=1e-5)
    assert sum(seen) == windows and max(seen) <= 4


def test_without_a_host_there_is_an_end_too(model, monkeypatch):
    monkeypatch.setattr(passes, "MOST_BYTES", 3 * ONE)
    seen = sizes_seen(model)
    model.encode_latents(latents(8))
    assert seen == [3, 3, 2]


@pytest.mark.parametrize("what", ["score", "classify", "judge", "reward", "select"])
def test_everything_that_asks_without_a_gradient_is_split(model, what):
    z = latents(9)
    policy = lclip.SafetyPolicy(lclip.parse_concepts("skull: a skull // a mushroom"))
    ask = {
        "score": lambda: lclip.similarity(model, z, ["a red circle"]),
        "classify": lambda: lclip.classify(model, z, ["a skull", "a mushroom"]),
        "judge": lambda: lclip.SafetyJudge(policy, model).probabilities(z),
        "reward": lambda: lclip.TextReward(model, "a red circle")(z),
        "select": lambda: lclip.SafetyReward(policy, model)(z),
    }[what]
    whole, seen = ask(), sizes_seen(model)
    model.free_bytes = lambda: 2 * 4 * ONE
    torch.testing.assert_close(ask(), whole, atol=1e-6, rtol=1e-4)
    assert seen == [4, 4, 1]


GRADIENT = passes.gradient_bytes(tokens=17, width=32, layers=2)


@pytest.mark.parametrize("free", [0, 4 * GRADIENT, 9 * GRADIENT, 10**15])
def test_a_gradient_is_split_where_it_must_and_stays_the_same(model, free):
    z = latents(5).requires_grad_()
    wanted = torch.autograd.grad(model.encode_latents(z).square().sum() + z.sum(), z)[0]
    model.free_bytes = lambda: free
    seen = sizes_seen(model)
    found = torch.autograd.grad(model.encode_latents(z).square().sum() + z.sum(), z)[0]
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    once = min(5, max(1, free // (2 * GRADIENT)))
    assert max(seen) == once and sum(seen) == (5 if once == 5 else 10)  # parts are computed twice


def test_training_gets_one_pass(model):
    model.free_bytes = lambda: 0
    model.requires_grad_(True)
    seen = sizes_seen(model)
    model.encode_latents(latents(5)).sum().backward()
    assert seen == [5]


def kept_bytes(model, z):
    """What torch keeps for a gradient of the image tower, beside its weights."""
    own = {each.untyped_storage().data_ptr() for each in model.parameters()}
    kept = {}

    def keep(tensor):
        memory = tensor.untyped_storage()
        if memory.data_ptr() not in own:
            kept[memory.data_ptr()] = tensor, memory.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.encode_latents(z.requires_grad_())
    return sum(size for _, size in kept.values())


@pytest.mark.parametrize(("patch", "layers", "size"), [(4, 12, 32), (2, 12, 16), (2, 6, 32)])
def test_what_a_gradient_is_said_to_take_is_what_it_takes(patch, layers, size):
    grid = min(size, 32) // patch
    config = tiny_config(WORDS, embed_dim=16, width=192, heads=2, layers=layers, patch_size=patch, grid=grid)
    model = random_model(config, WORDS)
    kept, said = kept_bytes(model, latents(2, size)), model.gradient_memory(size, size, 2)
    assert kept < said < 3 * kept


PROGRAM = """
import sys, torch
sys.path.insert(0, {tests!r})
from peak_memory import forget_peak, peak_memory
import lclip
from lclip.mini.world import WEIGHTS
model = lclip.load(WEIGHTS / "latent_clip.safetensors")
z = 6 * torch.randn(4096, 4, 8, 8)
lclip.similarity(model, z[:8], ["a skull"])
forget_peak()
before = peak_memory()
lclip.similarity(model, z, ["a skull"])
print((peak_memory() - before) >> 20)
"""


@counted
def test_four_thousand_pictures_take_the_memory_of_one_pass():
    tests = str(__import__("pathlib").Path(__file__).parent)
    code = PROGRAM.format(tests=tests)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1.5 * (passes.MOST_BYTES >> 20), "in one pass it took 1,400 MiB"
