"""Image towers as CUDA graphs: the same numbers as without, whatever happens in between.

On a GPU with real graphs. Without one, what surrounds them is tested on a stand-in with their manners.
"""

import copy
import gc
import logging
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from graph_stand_in import StandIn, stand_in

import lclip
from lclip.adapters.adapter import AdapterShape
from lclip.model import graphs

EXACT = {"rtol": 1e-5, "atol": 1e-6}
NEEDS_GPU = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.version.cuda is None, reason="real graphs need an NVIDIA GPU"
)


@pytest.fixture(params=["stand-in", pytest.param("GPU", marks=NEEDS_GPU)])
def device(request, monkeypatch):
    if request.param == "GPU":
        return "cuda"
    stand_in(graphs, monkeypatch.setattr)
    return "cpu"


@pytest.fixture
def model(tiny_model, device):
    return tiny_model.to(device)


def latents(count=2, side=8, device="cpu"):
    return torch.randn(count, 4, side, side).to(device)


def along_a_direction(embedding):
    """One number that depends on all of an embedding."""
    return (embedding * torch.linspace(-1, 1, embedding.shape[1], device=embedding.device)).sum()


def both_passes(model, z):
    """The embedding, and the gradient of `along_a_direction`."""
    leaf = z.detach().clone().requires_grad_()
    embedding = model.encode_latents(leaf)
    (gradient,) = torch.autograd.grad(along_a_direction(embedding), leaf)
    return embedding.detach(), gradient


def assert_same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, **EXACT)


def captured(model):
    """The graphs that a tower holds, within `lclip.graphed`."""
    return [passes for passes in model.visual.forward.passes.values() if passes is not None]


def test_a_cpu_computes_as_without_it(tiny_model):
    wanted = both_passes(tiny_model, z := latents())
    with lclip.graphed(tiny_model):
        for _ in range(3):
            assert_same(both_passes(tiny_model, z), wanted)
        assert not captured(tiny_model)


def test_a_tower_is_as_before_afterwards_also_after_an_error(tiny_model):
    before = tiny_model.visual.forward
    with pytest.raises(KeyError), lclip.graphed(tiny_model):
        assert tiny_model.visual.forward != before
        raise KeyError("anything")
    assert tiny_model.visual.forward == before


def test_the_inner_of_two_leaves_the_tower_to_the_outer(tiny_model):
    with lclip.graphed(tiny_model):
        outer = tiny_model.visual.forward
        with lclip.graphed(tiny_model, tiny_model):
            assert tiny_model.visual.forward is outer
        assert tiny_model.visual.forward is outer


def test_it_finds_the_tower_of_a_model_behind_an_adapter(tiny_model):
    shape = AdapterShape(lclip.space_named("sd1.5"), lclip.space_named("sdxl"), width=8, depth=1)
    adapted = lclip.apply_adapter(tiny_model, lclip.LatentAdapter(shape))
    with lclip.graphed(adapted):
        assert "forward" in tiny_model.visual.__dict__
    assert "forward" not in tiny_model.visual.__dict__


def test_replays_give_what_the_plain_passes_give(model, device):
    inputs = [latents(device=device) for _ in range(6)]
    wanted = [both_passes(model, z) for z in inputs]
    with lclip.graphed(model):
        found = [both_passes(model, z) for z in inputs]
        assert len(captured(model)) == 1
        assert captured(model)[0].turn >= 2 * (len(inputs) - 1)  # all but the first
    for one, other in zip(found, wanted, strict=True):
        assert_same(one, other)


@NEEDS_GPU
def test_full_size_replays_agree_with_the_plain_passes():
    config = lclip.LatentCLIPConfig(
        embed_dim=512, channels=4, patch_size=8, grid=8, vision_width=768, vision_layers=12, vision_heads=12,
        text_width=64, text_layers=1, text_heads=1, context_length=8, vocab_size=16, latent_space="sdxl",
    )  # fmt: skip
    model = lclip.LatentCLIP(config, device="cuda").requires_grad_(False).eval()
    inputs = [latents(1, 64, "cuda") for _ in range(4)]
    wanted = [both_passes(model, z) for z in inputs]
    with lclip.graphed(model):
        for z, (embedding, gradient) in zip(inputs, wanted, strict=True):
            found = both_passes(model, z)
            torch.testing.assert_close(found[0], embedding, rtol=0, atol=1e-6)
            cosine = torch.nn.functional.cosine_similarity(found[1].flatten(), gradient.flatten(), dim=0)
            assert cosine > 1 - 1e-5
            torch.testing.assert_close(found[1].norm(), gradient.norm(), rtol=1e-4, atol=0)
        assert captured(model)


def test_two_forward_passes_before_their_backward_passes(model, device):
    first, second = latents(device=device), latents(device=device)
    wanted = both_passes(model, first)[1], both_passes(model, second)[1]
    with lclip.graphed(model):
        for _ in range(2):
            both_passes(model, first)
        leaves = first.clone().requires_grad_(), second.clone().requires_grad_()
        values = [along_a_direction(model.encode_latents(leaf)) for leaf in leaves]
        gradients = [torch.autograd.grad(*pair)[0] for pair in zip(values, leaves, strict=True)]
    assert_same(gradients, wanted)


def test_two_rewards_of_one_model_add_up(model, device):
    towards, away = lclip.TextReward(model, "a red square"), lclip.TextReward(model, "a circle", -0.5)
    reward = lclip.RewardSum([towards, away])
    z = latents(device=device)

    def gradient():
        leaf = z.clone().requires_grad_()
        return torch.autograd.grad(reward(leaf).sum(), leaf)[0]

    wanted = gradient()
    with lclip.graphed(model):
        for _ in range(3):
            torch.testing.assert_close(gradient(), wanted, **EXACT)


def test_results_are_not_overwritten_by_the_next_pass(model, device):
    with lclip.graphed(model):
        z = latents(device=device)
        for _ in range(2):
            both_passes(model, z)
        kept = both_passes(model, z)
        before = [value.clone() for value in kept]
        both_passes(model, latents(device=device))
    assert_same(kept, before)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_passes_without_gradient_are_captured_too_and_with_one_when_it_is_asked_for(model, device, mode):
    z = latents(device=device)
    wanted = both_passes(model, z)
    with lclip.graphed(model):
        with mode():
            for _ in range(3):
                torch.testing.assert_close(model.encode_latents(z), wanted[0], **EXACT)
        (forward,) = captured(model)
        assert not forward.with_gradient
        for _ in range(2):
            assert_same(both_passes(model, z), wanted)
        (both,) = captured(model)
        turn = both.turn
        with mode():
            for _ in range(2):
                torch.testing.assert_close(model.encode_latents(z.clone()), wanted[0], **EXACT)
        assert both.with_gradient and both.turn == turn + 2, "the same graph serves both"
        assert_same(both_passes(model, z), wanted)


def test_a_gradient_that_is_asked_for_twice(model, device):
    z = latents(device=device)
    wanted = both_passes(model, z)[1]
    with lclip.graphed(model):
        for _ in range(2):
            both_passes(model, z)
        leaf = z.clone().requires_grad_()
        value = along_a_direction(model.encode_latents(leaf))
        for _ in range(2):
            (gradient,) = torch.autograd.grad(value, leaf, retain_graph=True)
            torch.testing.assert_close(gradient, wanted, **EXACT)


@pytest.mark.parametrize("move", ["replace", "in place", "away and back"])
def test_weights_that_move_or_change_are_followed(model, device, move):
    z = latents(device=device)
    with lclip.graphed(model):
        for _ in range(3):
            both_passes(model, z)
        before = captured(model)
        weight = model.visual.proj
        if move == "replace":
            model.visual.proj = torch.nn.Parameter(weight.detach().flip(0), requires_grad=False)
            del weight
        elif move == "in place":
            weight.copy_(weight.flip(0).clone())
        else:
            model.to("cpu", torch.float64)
            filler = [torch.full((64, 64), torch.nan, device=device) for _ in range(64)]
            model.to(device, torch.float32)
            del filler
        found = [both_passes(model, z) for _ in range(3)]
        assert captured(model)
        assert (captured(model) == before) == (move == "in place")
    wanted = both_passes(model, z)
    for each in found:
        assert_same(each, wanted)


def test_several_shapes_and_no_more_than_it_keeps(model, device):
    # By "fit" both sides are read as one shape.
    shapes = [(count, side) for count in range(1, graphs.MOST_SHAPES + 2) for side in (8, 12)]
    with lclip.graphed(model):
        for count, side in shapes:
            z = latents(count, side, device)
            found = [both_passes(model, z) for _ in range(3)]
            assert_same(found[2], found[0])
        assert len(captured(model)) == graphs.MOST_SHAPES == 2


def test_the_shape_that_was_used_longest_ago_makes_room(model, device):
    first, second, third = (latents(count, device=device) for count in (1, 2, 3))
    with lclip.graphed(model):
        for z in (first, first, second, second, first, third, third):
            both_passes(model, z)
        assert [len(passes.input) for passes in captured(model)] == [1, 3]


def test_large_batches_and_trainable_towers_run_as_they_are(model, device):
    large = latents(graphs.MOST_PATCHES // 16 + 1, device=device)
    with lclip.graphed(model):
        for _ in range(3):
            both_passes(model, large)
        model.visual.requires_grad_(True)
        for _ in range(3):
            both_passes(model, latents(device=device))
        assert not captured(model)


def test_as_many_patches_as_are_bound_are_captured(model, device):
    """Such as B/4-plus sees at 1024 px: 32 x 32 of them, and the class token."""
    full = latents(graphs.MOST_PATCHES // 16, device=device)
    with lclip.graphed(model):
        for _ in range(3):
            both_passes(model, full)
        assert captured(model)


def test_switched_off(model, device, monkeypatch):
    monkeypatch.setenv(graphs.SWITCH, "0")
    with lclip.graphed(model):
        for _ in range(3):
            both_passes(model, latents(device=device))
        assert not captured(model)


class TestKept:
    """Graphs of a model that a host keeps, from one run to the next."""

    @pytest.fixture
    def kept(self, model):
        graphs.keep(model)
        for _ in range(3):
            both_passes(model, latents(device=model.positional_embedding.device))
        assert captured(model)
        return model

    def test_the_next_run_captures_nothing(self, model, device):
        graphs.keep(model)
        for _ in range(3):
            with lclip.graphed(model):
                found = both_passes(model, z := latents(device=device))
        before = captured(model)
        with lclip.graphed(model), torch.inference_mode():
            model.encode_latents(z)
        assert captured(model) == before and captured(model)[0].turn >= 3
        graphs.drop(model)
        assert_same(both_passes(model, z), found)

    def test_a_copy_of_the_model_captures_for_itself(self, kept, device):
        own = copy.deepcopy(kept)
        own.visual.proj = torch.nn.Parameter(own.visual.proj.flip(0), requires_grad=False)
        z = latents(device=device)
        found, other = ([both_passes(each, z) for _ in range(3)] for each in (own, kept))
        assert captured(own) and captured(own)[0] is not captured(kept)[0]
        graphs.drop(own, kept)
        assert_same(found[2], both_passes(own, z))
        assert_same(other[2], both_passes(kept, z))

    def test_what_they_take_is_told_and_given_back(self, kept, device):
        assert graphs.kept_bytes(kept) > 0
        assert graphs.drop(kept) > 0
        assert graphs.kept_bytes(kept) == 0 and not captured(kept)

    def test_the_switch_ends_them_too(self, kept, device, monkeypatch):
        monkeypatch.setenv(graphs.SWITCH, "0")
        both_passes(kept, latents(device=device))
        assert not captured(kept)

    def test_they_end_with_the_model_and_keep_nothing_of_it_alive(self, kept):
        tower, passes = weakref.ref(kept.visual), weakref.ref(captured(kept)[0])
        parts = kept.__dict__["_modules"]
        gc.disable()
        try:
            del kept, parts["visual"]
            assert tower() is None and passes() is None
        finally:
            gc.enable()

    def test_a_gradient_whose_graph_was_dropped_on_the_way_is_computed_anew(self, kept, device):
        z = latents(device=device)
        wanted = both_passes(kept, z)[1]
        leaf = z.clone().requires_grad_()
        value = along_a_direction(kept.encode_latents(leaf))
        graphs.drop(kept)
        kept.visual.proj = torch.nn.Parameter(kept.visual.proj.detach().clone(), requires_grad=False)
        torch.testing.assert_close(torch.autograd.grad(value, leaf)[0], wanted, **EXACT)

    @pytest.mark.parametrize("when", ["forward", "backward"])
    def test_a_replay_that_fails_is_computed_anew(self, kept, device, when, monkeypatch, caplog):
        z = latents(device=device)
        with monkeypatch.context() as patch:
            patch.setattr(captured(kept)[0], when, lambda *_: 1 / 0)
            with caplog.at_level(logging.WARNING, "latent-clip"):
                found = [both_passes(kept, z) for _ in range(3)]
        assert not captured(kept) and len(caplog.records) == 1
        graphs.drop(kept)  # as a host does: then it is tried again
        for each in found:
            assert_same(each, both_passes(kept, z))
        both_passes(kept, z)
        assert captured(kept)

    def test_other_settings_are_other_passes(self, kept, device):
        before, precision = captured(kept), torch.get_float32_matmul_precision()
        turns = [passes.turn for passes in before]
        torch.set_float32_matmul_precision("medium" if precision != "medium" else "highest")
        try:
            both_passes(kept, latents(device=device))
        finally:
            torch.set_float32_matmul_precision(precision)
        assert [passes.turn for passes in before] == turns

    def test_several_threads_get_their_own_answers(self, kept, device):
        inputs = [latents(device=device) for _ in range(24)]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(partial(both_passes, kept), inputs))
        graphs.drop(kept)
        for z, each in zip(inputs, found, strict=True):
            assert_same(each, both_passes(kept, z))


def test_a_capture_leaves_half_of_what_is_free(model, device):
    free = [0]
    graphs.keep(model, free_bytes=lambda: free[0])
    for _ in range(3):
        both_passes(model, latents(device=device))
    assert not captured(model)
    free[0] = 10**12
    both_passes(model, latents(device=device))
    assert captured(model)


def test_shapes_in_turn_are_not_captured_every_time(model, device):
    graphs.keep(model)
    made = []
    for _ in range(8):
        for count in (1, 2, 3):
            both_passes(model, latents(count, device=device))
            made += [passes for passes in captured(model) if passes not in made]
    assert len(made) <= 8 * 3 / 2


def test_a_capture_that_fails_leaves_everything_running(model, device, caplog, monkeypatch):
    z = latents(device=device)
    wanted = both_passes(model, z)
    project = model.visual.project

    def waits(x):
        if float(x.detach().sum()) == 1e9:  # a value that is waited for cannot be captured
            raise AssertionError
        return project(x)

    def refused(*_):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "latent-clip"):
        patch.setattr(model.visual, "project", waits)
        if device == "cpu":
            patch.setattr(graphs, "_CapturedPasses", refused)
        with lclip.graphed(model):
            for _ in range(4):
                assert_same(both_passes(model, z), wanted)
            assert not captured(model)
    assert len(caplog.records) == 1
    assert caplog.records[0].message.startswith("The Latent-CLIP runs without CUDA graphs, more slowly: ")
    with lclip.graphed(model):
        for _ in range(3):
            assert_same(both_passes(model, z), wanted)
        assert captured(model)


def test_a_search_finds_the_same(model, device):
    noise, z = latents(device=device), latents(device=device)
    reward, settings = lclip.TextReward(model, "a red square"), lclip.ReNOSettings(iterations=6)
    wanted = lclip.reno(lambda x: x + 0.1 * z, noise, reward, settings).best_latents
    with lclip.graphed(model):
        found = lclip.reno(lambda x: x + 0.1 * z, noise, reward, settings).best_latents
        assert captured(model)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@NEEDS_GPU
def test_the_memory_of_the_graphs_is_given_back(tiny_model):
    model, z = tiny_model.cuda(), latents(512 // 17, device="cuda")

    def free_memory():
        gc.collect()
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0]

    free = []
    for _ in range(3):
        with lclip.graphed(model):
            for _ in range(3):
                both_passes(model, z)
            assert captured(model)
            if free:
                assert free_memory() < free[0]
        free.append(free_memory())
    assert free[2] >= free[0]  # the first one leaves a library's workspace


def test_while_somebody_else_records_a_graph_the_tower_runs_as_it_is(tiny_model, monkeypatch, caplog):
    """Nothing is captured or replayed, and what is dropped is given back afterwards."""
    stand_in(graphs, monkeypatch.setattr)
    graphs.keep(tiny_model)
    z = latents()
    wanted = [both_passes(tiny_model, z) for _ in range(3)][0]
    (kept,) = captured(tiny_model)
    turn, made, alive = kept.turn, StandIn.made, weakref.ref(kept)
    leaf = latents().requires_grad_()
    embedding = tiny_model.encode_latents(leaf)  # replayed; its gradient is asked for meanwhile
    asked = kept.turn
    caplog.clear()  # of what other tests made the log tell
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "latent-clip"):
        patch.setattr(StandIn, "recording", True)
        assert_same(both_passes(tiny_model, z), wanted)
        for _ in range(2):  # another shape, which would be captured now
            both_passes(tiny_model, latents(3))
        assert torch.autograd.grad(along_a_direction(embedding), leaf)[0].abs().sum() > 0
        assert captured(tiny_model) == [kept] and (kept.turn, StandIn.made) == (asked, made) and asked > turn
        graphs.drop(tiny_model)
        del kept, embedding
        gc.collect()
        assert alive() is not None and not captured(tiny_model)
    assert not caplog.records
    for _ in range(3):
        assert_same(both_passes(tiny_model, z), wanted)
    gc.collect()
    assert alive() is None and captured(tiny_model)


@NEEDS_GPU
def test_beside_graphs_that_the_host_captures_itself(tiny_model):
    """As ComfyUI's blocks: on a stream of their own, with torch's cache emptied before each capture."""
    model, z = tiny_model.cuda(), latents(device="cuda")
    wanted = both_passes(model, z)
    graphs.keep(model)
    linear, x = torch.nn.Linear(64, 64, device="cuda"), torch.randn(8, 64, device="cuda")
    stream, out = torch.cuda.Stream(), None
    for _ in range(4):
        assert_same(both_passes(model, z), wanted)
        graph = torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream())
        with (
            torch.no_grad(),
            torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
        ):
            out = linear(x)
        torch.cuda.current_stream().wait_stream(stream)
        graph.replay()
        assert_same(both_passes(model, z), wanted)
        torch.testing.assert_close(out, linear(x))
        graph.reset()
    assert captured(model)
