"""The same weights give what the authors' implementation gives, within a stated tolerance."""

import os
from pathlib import Path

import pytest
import torch

import lclip
from lclip.checkpoints.checkpoint import normalise_keys, read_checkpoint

TOLERANCE = 1e-5


def our_model(reference: dict, dtype: torch.dtype = torch.float32) -> lclip.LatentCLIP:
    model = lclip.LatentCLIP(reference["config"], device="meta")
    weights = {name: tensor.to(dtype) for name, tensor in reference["weights"].items()}
    model.load_state_dict(weights, assign=True)
    return model.requires_grad_(False)


def test_embeddings_and_logits(reference):
    model = our_model(reference)
    image, text = model.encode_latents(reference["latents"]), model.encode_tokens(reference["ids"])
    torch.testing.assert_close(image, reference["image_features"], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(text, reference["text_features"], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(
        model.logit_scale * image @ text.T, reference["logits"], atol=TOLERANCE, rtol=0
    )


def test_gradient_in_the_latents(reference):
    model = our_model(reference)
    z = reference["latents"].requires_grad_(True)
    logits = model.logit_scale * model.encode_latents(z) @ model.encode_tokens(reference["ids"]).T
    (gradient,) = torch.autograd.grad((logits * reference["weighting"]).sum(), z)
    torch.testing.assert_close(gradient, reference["latents_gradient"], atol=TOLERANCE, rtol=1e-4)


@pytest.mark.parametrize(("dtype", "cosine"), [(torch.float16, 0.999), (torch.bfloat16, 0.99)])
@pytest.mark.parametrize("computed_in", ["stored", "float32"])
def test_half_precision_storage(reference, dtype, cosine, computed_in):
    model = our_model(reference, dtype)
    if computed_in == "float32":
        model.float()
    image, text = model.encode_latents(reference["latents"]), model.encode_tokens(reference["ids"])
    assert image.dtype == text.dtype == torch.float32
    assert float((image * reference["image_features"]).sum(1).min()) >= cosine
    assert float((text * reference["text_features"]).sum(1).min()) >= cosine


def test_released_layout_loads(reference, tmp_path):
    """The authors' training file: every key behind module., a frozen VAE encoder, an optimizer."""
    weights = {}
    for name, tensor in reference["weights"].items():
        weights["module." + name.replace("visual.", "visual.latent_vit.", 1)] = tensor
    weights["module.visual.vae_encoder.conv_in.weight"] = torch.randn(8, 3, 3, 3)
    weights["module.visual.vae_quant_conv.bias"] = torch.randn(8)
    path = tmp_path / "epoch_34.pt"
    torch.save(
        {"epoch": 34, "name": "x", "state_dict": weights, "optimizer": {"state": {0: torch.ones(3)}}}, path
    )
    checkpoint = read_checkpoint(path)
    assert set(checkpoint.weights) == set(reference["weights"])
    assert checkpoint.config.grid == 4 and checkpoint.config.latent_space == "sdxl"
    for name, tensor in reference["weights"].items():
        assert torch.equal(checkpoint.weights[name], tensor)


@pytest.mark.skipif(
    "LATENT_CLIP_REFERENCE" not in os.environ, reason="set LATENT_CLIP_REFERENCE to a model's .pt"
)
def test_reference_results_at_full_size():
    """LATENT_CLIP_REFERENCE: a torch file with state_dict, latents, ids, image_features and text_features."""
    content = torch.load(Path(os.environ["LATENT_CLIP_REFERENCE"]), weights_only=True)
    weights = normalise_keys(content["state_dict"])
    model = lclip.LatentCLIP(lclip.config_from_state_dict(weights), device="meta")
    model.load_state_dict(weights, assign=True)
    image, text = model.encode_latents(content["latents"]), model.encode_tokens(content["ids"])
    torch.testing.assert_close(image, content["image_features"], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(text, content["text_features"], atol=TOLERANCE, rtol=0)
