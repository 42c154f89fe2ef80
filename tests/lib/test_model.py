"""The two towers: shapes, normalisation, gradients, training, and layers that a host manages."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import lclip
from lclip.model.vision import embed_patches


def build(config: lclip.LatentCLIPConfig, **how) -> lclip.LatentCLIP:
    torch.manual_seed(0)
    words = [f"w{chr(97 + i)}" for i in range(config.vocab_size - 4)]
    tokenizer = lclip.WordTokenizer(words, config.context_length)
    return lclip.LatentCLIP(config, tokenizer=tokenizer, **how)


configs = st.builds(
    lclip.LatentCLIPConfig,
    embed_dim=st.integers(1, 9),
    channels=st.integers(1, 5),
    patch_size=st.integers(1, 3),
    grid=st.integers(1, 4),
    vision_width=st.sampled_from([8, 24]),
    vision_layers=st.integers(1, 2),
    vision_heads=st.sampled_from([1, 2, 4]),
    text_width=st.sampled_from([8, 16]),
    text_layers=st.integers(1, 2),
    text_heads=st.sampled_from([1, 2]),
    context_length=st.integers(3, 6),
    vocab_size=st.integers(5, 9),
    tokenizer=st.just("words"),
)


@given(
    configs,
    st.integers(1, 4),
    st.integers(0, 9),
    st.integers(0, 9),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_any_shape_gives_embeddings_of_length_one(config, batch, taller, wider, dtype):
    model = build(config, dtype=dtype)
    z = torch.randn(batch, config.channels, config.patch_size + taller, config.patch_size + wider) * 6
    for rule in lclip.SIZE_RULES:
        embedded = model.encode_latents(z, rule)
        assert embedded.shape == (batch, config.embed_dim) and embedded.dtype == dtype
        torch.testing.assert_close(embedded.norm(dim=1), torch.ones(batch, dtype=dtype))
    patches = model.patch_embeddings(z)
    assert patches.shape[0] == batch and patches.shape[-1] == config.embed_dim
    text = model.encode_text(["wa", "wa wb wa", ""])
    assert text.shape == (3, config.embed_dim)
    torch.testing.assert_close(text.norm(dim=1), torch.ones(3, dtype=dtype))


@given(configs)
def test_the_configuration_is_read_off_the_weights(config):
    model = build(config)
    known = {"vision_heads": config.vision_heads, "text_heads": config.text_heads, "tokenizer": "words"}
    known["latent_space"] = config.latent_space
    assert lclip.config_from_state_dict(model.state_dict(), known) == config


@pytest.mark.parametrize("rule", lclip.SIZE_RULES)
@pytest.mark.parametrize("size", [(8, 8), (11, 6), (16, 24)])
def test_gradient_agrees_with_finite_differences(tiny_model, rule, size):
    model = tiny_model.double()
    z = (torch.randn(2, 4, *size, dtype=torch.float64) * 6).requires_grad_(True)
    text = model.encode_text(["red circle"])[0]
    value = (model.encode_latents(z, rule) @ text).sum()
    (gradient,) = torch.autograd.grad(value, z)
    step = 1e-5
    for _ in range(3):
        direction = torch.randn_like(z)
        ahead, behind = (model.encode_latents(z.detach() + s * direction, rule) @ text for s in (step, -step))
        numeric = float((ahead - behind).sum()) / (2 * step)
        assert float((gradient * direction).sum()) == pytest.approx(numeric, rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("method", ["contributions", "tokens"])
def test_gradient_of_the_patches(tiny_model, method):
    model = tiny_model.double()
    z = (torch.randn(1, 4, 8, 8, dtype=torch.float64) * 6).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: model.patch_embeddings(x, method).sum(-1), (z,), fast_mode=True)


def test_an_item_does_not_depend_on_its_batch(tiny_model):
    z = torch.randn(5, 4, 8, 12) * 6
    together = tiny_model.encode_latents(z)
    alone = torch.cat([tiny_model.encode_latents(item[None]) for item in z])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


def test_nothing_is_written_into_the_input(tiny_model):
    z = torch.randn(2, 4, 8, 8)
    before = z.clone()
    tiny_model.encode_latents(z)
    tiny_model.patch_embeddings(z)
    assert torch.equal(z, before)


def test_what_follows_the_end_of_a_text_changes_nothing(tiny_model):
    ids = tiny_model.tokenizer.encode(["red circle"])
    other = ids.clone()
    other[:, 4:] = 5
    assert torch.equal(tiny_model.encode_tokens(ids), tiny_model.encode_tokens(other))


def test_many_texts_agree_with_one_at_a_time(tiny_model):
    texts = ["red", "blue circle", "a photo of a green square"] * 100
    together = tiny_model.encode_text(texts)
    alone = torch.cat([tiny_model.encode_text([text]) for text in texts[:3]])
    torch.testing.assert_close(together[:3], alone, atol=1e-6, rtol=0)
    torch.testing.assert_close(together[-3:], alone, atol=1e-6, rtol=0)
    torch.testing.assert_close(tiny_model.encode_text("red"), alone[:1], atol=1e-6, rtol=0)


def test_every_parameter_learns(tiny_config):
    """Contrastive training lowers the loss, and the gradient reaches every parameter."""
    words = ["red", "green", "blue", "circle", "square", "a", "photo", "of", "left", "right"]
    model = lclip.LatentCLIP(tiny_config, tokenizer=lclip.WordTokenizer(words, tiny_config.context_length))
    latents, ids = torch.randn(6, 4, 8, 8) * 6, model.tokenizer.encode([*words[:5], "a photo of right"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(15):
        logits = model.log_logit_scale.exp() * model.encode_latents(latents) @ model.encode_tokens(ids).T
        loss = nn.functional.cross_entropy(logits, torch.arange(6))
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


class CountingOperations:
    """A host's layers: weights stay in half precision and are cast to the input at use."""

    made: list[str] = []

    class Linear(nn.Linear):
        def forward(self, x):
            return nn.functional.linear(x, self.weight.to(x), self.bias.to(x))

    class Conv2d(nn.Conv2d):
        def forward(self, x):
            return self._conv_forward(x, self.weight.to(x), None)

    class LayerNorm(nn.LayerNorm):
        def forward(self, x):
            return nn.functional.layer_norm(
                x, self.normalized_shape, self.weight.to(x), self.bias.to(x), self.eps
            )

    class Embedding(nn.Embedding):
        pass


def test_layers_of_a_host(tiny_model, tmp_path):
    path = lclip.save_checkpoint(tiny_model, tmp_path / "a.safetensors", dtype=torch.float16)
    plain = lclip.load(path)
    hosted = lclip.load(path, dtype=torch.float16, operations=CountingOperations)
    hosted.compute_dtype = torch.float32
    assert {parameter.dtype for parameter in hosted.parameters()} == {torch.float16}
    for module in hosted.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.LayerNorm | nn.Embedding):
            kinds = [kind.__qualname__ for kind in type(module).__mro__]
            assert any(kind.startswith("CountingOperations.") for kind in kinds)
    z = torch.randn(2, 4, 8, 8) * 6
    torch.testing.assert_close(hosted.encode_latents(z), plain.encode_latents(z), atol=1e-6, rtol=0)
    torch.testing.assert_close(hosted.encode_text("red"), plain.encode_text("red"), atol=1e-6, rtol=0)
    torch.testing.assert_close(hosted.patch_embeddings(z), plain.patch_embeddings(z), atol=1e-5, rtol=0)


def test_parameters_are_attributes_under_their_state_dict_names(tiny_model):
    """What a host's weight patcher relies on."""
    for name, parameter in tiny_model.named_parameters():
        assert tiny_model.get_parameter(name) is parameter
    assert set(tiny_model.state_dict()) == {name for name, _ in tiny_model.named_parameters()}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("grid", 0),
        ("channels", -1),
        ("embed_dim", 1.5),
        ("vision_heads", 5),
        ("text_heads", True),
        ("tokenizer", ""),
        ("activation", "relu"),
    ],
)
def test_wrong_configurations(tiny_config, field, value):
    with pytest.raises(ValueError, match=field.split("_")[0]):
        lclip.LatentCLIPConfig(**{**vars(tiny_config), field: value})


def test_no_text_and_no_text_type(tiny_model):
    with pytest.raises(ValueError, match="no text"):
        tiny_model.encode_text([])
    with pytest.raises(ValueError, match="text 1 is a int"):
        tiny_model.encode_text(["red", 7])


def test_recomputed_blocks_have_the_same_gradients(tiny_config):
    z = torch.randn(3, 4, 8, 8)
    gradients = []
    for recompute in (False, True):
        model = build(tiny_config)
        for tower in (model.visual.transformer, model.transformer):
            for block in tower.resblocks:
                block.recompute = recompute
        (model.encode_latents(z) @ model.encode_text(["wa wb"]).T).sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for kept, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, kept)


def test_patches_by_product_are_the_convolution():
    """What a GPU computes; there the convolution would be rounded."""
    z, weight = torch.randn(2, 4, 13, 9), torch.randn(16, 4, 3, 2)
    wanted = torch.nn.functional.conv2d(z, weight, stride=(3, 2))
    torch.testing.assert_close(embed_patches(z, weight), wanted)
