"""Similarity, classification, heatmaps and selection, against the sums they stand for."""

import logging
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lclip
from lclip.mini.world import load_world


def any_number(values):
    return any(value is not None for value in values)


def test_similarity_is_the_cosine(tiny_model):
    z, texts = torch.randn(3, 4, 8, 8) * 6, ["red", "blue circle"]
    image, text = tiny_model.encode_latents(z), tiny_model.encode_text(texts)
    expected = torch.nn.functional.cosine_similarity(image[:, None], text[None], dim=-1)
    torch.testing.assert_close(lclip.similarity(tiny_model, z, texts), expected, atol=1e-6, rtol=0)
    assert lclip.similarity(tiny_model, z, "red").shape == (3, 1)


def test_classify_is_a_softmax_over_averaged_templates(tiny_model):
    """The template average as the paper has it: normalise, average, normalise again."""
    z, labels, templates = torch.randn(3, 4, 8, 8) * 6, ["red", "blue"], ["a photo of {}", "{} left", "{}"]
    logits = []
    for label in labels:
        each = tiny_model.encode_text([template.replace("{}", label) for template in templates])
        mean = each.mean(0)
        logits.append(tiny_model.logit_scale * tiny_model.encode_latents(z) @ (mean / mean.norm()))
    expected = torch.stack(logits, dim=1).softmax(1)
    torch.testing.assert_close(lclip.classify(tiny_model, z, labels, templates), expected, atol=1e-5, rtol=0)


def test_braces_in_labels_are_text(tiny_model):
    """The words among the braces are unknown to this model, but the colours are not."""
    z, labels = torch.randn(2, 4, 8, 8) * 6, ["red {0.__class__} {x}", "blue {0.__class__} {x}"]
    logits = tiny_model.logit_scale * tiny_model.encode_latents(z) @ tiny_model.encode_text(labels).T
    torch.testing.assert_close(lclip.classify(tiny_model, z, labels), logits.softmax(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("labels", "templates", "told"),
    [
        ([], ["{}"], "no labels"),
        (["red", "blue"], [], "no templates"),
        (["red", "blue"], ["a photo"], "a photo.*expected it"),
        (["red"], ["{}"], "there is one label, 'red'; expected at least two that differ"),
        ("red", ["{}"], "there is one label, 'red'"),
        (["red", ""], ["{}"], "one of the labels .* is empty"),
        (["red", "blue", "  "], ["a {}"], "is empty"),
        (["red", "red"], ["{}"], "'red', 'red' are one and the same"),
        (["red", " RED", "red!"], ["{}", "a {}"], "one and the same"),
        (["zebra", "unicorn"], ["{}"], "one and the same"),  # two words that this model does not know
        (["red", "blue"], ["a a a a a a a {}"], "one and the same"),  # cut before the label comes
    ],
)
def test_classify_refuses(tiny_model, labels, templates, told):
    with pytest.raises(ValueError, match=told):
        lclip.classify(tiny_model, torch.randn(1, 4, 8, 8), labels, templates)


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (16, 24), (2, 2)])
@pytest.mark.parametrize("method", ["contributions", "tokens"])
def test_heatmap_lies_on_the_latents_grid(tiny_model, size, method):
    z = torch.randn(2, 4, *size) * 6
    heat = lclip.heatmap(tiny_model, z, "red circle", method=method)
    assert heat.shape == (2, *size)
    assert heat.dtype == torch.float32 and bool(torch.isfinite(heat).all())


def test_contributions_and_the_rest_add_up_to_the_embedding(tiny_config):
    """In a model of one block without MLP, the parts that attention brings can be summed by hand."""
    one = lclip.LatentCLIPConfig(**{**vars(tiny_config), "vision_layers": 1, "vision_heads": 4})
    model = lclip.LatentCLIP(one).double().requires_grad_(False)
    tower: Any = model.visual
    block = tower.transformer.resblocks[0]
    block.mlp.c_proj.weight.zero_()
    z = torch.randn(2, 4, 8, 8, dtype=torch.float64) * 6
    tokens = tower.embed(z)
    reference = torch.nn.MultiheadAttention(64, 4, batch_first=True, dtype=torch.float64)
    weights = {name.replace("in_proj.", "in_proj_"): w for name, w in block.attn.state_dict().items()}
    reference.load_state_dict(weights)
    inner = block.ln_1(tokens)
    _, attention = reference(inner, inner, inner, average_attn_weights=False)  # [B, heads, N, N]
    values = inner[:, 0] @ weights["in_proj_weight"][128:].T
    own = torch.zeros(
        2, 64, dtype=torch.float64
    )  # what the class token brings to itself; biases start at zero
    for head in range(4):
        part = slice(16 * head, 16 * head + 16)
        own += attention[:, head, 0, :1] * (values[:, part] @ weights["out_proj.weight"][:, part].T)
    rest, final, whole = tokens[:, 0] + own, block(tokens)[:, 0], tower(z)
    rest = (rest - rest.mean(-1, keepdim=True)) / (final.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    expected = (whole - rest @ tower.proj) / whole.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(model.patch_embeddings(z).sum((1, 2)), expected)


def test_against_subtracts_what_other_texts_show(tiny_model):
    z = torch.randn(2, 4, 8, 8) * 6
    plain, other = (lclip.heatmap(tiny_model, z, text) for text in ("red", "blue"))
    torch.testing.assert_close(
        lclip.heatmap(tiny_model, z, "red", against=["blue"]), plain - other, atol=1e-6, rtol=0
    )
    assert float(lclip.heatmap(tiny_model, z, "red", against=["red"]).abs().max()) < 1e-6


def test_heatmap_refuses(tiny_model):
    with pytest.raises(ValueError, match="expected one string"):
        lclip.heatmap(tiny_model, torch.randn(1, 4, 8, 8), ["red"])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="'attention'"):
        lclip.heatmap(tiny_model, torch.randn(1, 4, 8, 8), "red", method="attention")


def test_scores_are_differentiable_in_the_latents(tiny_model):
    z = torch.randn(2, 4, 8, 8, requires_grad=True)
    for value in (
        lclip.similarity(tiny_model, z, "red"),
        lclip.classify(tiny_model, z, ["red", "blue"])[:, :1],
        lclip.heatmap(tiny_model, z, "red"),
    ):
        (gradient,) = torch.autograd.grad(value.sum(), z)
        assert bool((gradient.flatten(1).norm(dim=1) > 0).all())


@given(st.lists(st.none() | st.integers(-5, 5), min_size=1, max_size=20).filter(any_number), st.data())
def test_top_k_is_a_stable_sort_with_nan_last_that_keeps_what_there_is(values, data):
    k = data.draw(st.integers(1, len(values) + 3))
    scores = torch.tensor([math.nan if value is None else value for value in values], dtype=torch.float32)
    best, rest = lclip.top_k(scores, k)
    numbers = [i for i, value in enumerate(values) if value is not None]
    broken = [i for i, value in enumerate(values) if value is None]
    assert best == [*sorted(numbers, key=lambda i: -values[i]), *broken][:k]
    assert rest == [i for i in range(len(values)) if i not in best]


def test_more_than_there_are_is_said(caplog):
    with caplog.at_level(logging.WARNING, logger="latent-clip"):
        assert lclip.top_k(torch.tensor([1.0, 2.0]), 2) == ([1, 0], [])
        assert not caplog.records
        assert lclip.top_k(torch.tensor([1.0, 2.0]), 5) == ([1, 0], [])
    assert "k is 5, and there are 2 items" in caplog.text


def test_infinities_keep_their_places():
    assert lclip.top_k(torch.tensor([math.nan, -math.inf, 1.0, math.inf]), 3) == ([3, 2, 1], [0])


@pytest.mark.parametrize(
    ("scores", "k", "told"),
    [
        (torch.zeros(3), 0, "k is 0"),
        (torch.zeros(3), -1, "1 to 3"),
        (torch.zeros(0), 1, "one number per item"),
        (torch.zeros(2, 2), 1, "one number per item"),
        (torch.full((2,), math.nan), 1, "all 2 scores are NaN"),
    ],
)
def test_top_k_refuses(scores, k, told):
    with pytest.raises(ValueError, match=told):
        lclip.top_k(scores, k)


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_a_text_that_says_nothing_is_refused(tiny_model, text):
    z = torch.randn(2, 4, 8, 8)
    for ask in (
        lambda: lclip.similarity(tiny_model, z, [text]),
        lambda: lclip.similarity(tiny_model, z, text),
        lambda: lclip.similarity(tiny_model, z, ["red", text]),
        lambda: lclip.heatmap(tiny_model, z, text),
    ):
        with pytest.raises(ValueError, match="is empty; expected words"):
            ask()


def test_labels_that_are_one_to_the_model_are_named(caplog):
    model, z = load_world().latent_clip, 6 * torch.randn(2, 4, 8, 8)
    with caplog.at_level(logging.WARNING, logger="latent-clip"):
        lclip.classify(model, z, ["star", "ring", "cross"], ["a {}"])
        assert "one and the same" not in caplog.text
        shares = lclip.classify(model, z, ["star", "Star", "ring"], ["a {}"])
    assert "'star' and 'Star' are one and the same" in caplog.text
    assert torch.equal(shares[:, 0], shares[:, 1])
