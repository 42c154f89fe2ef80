"""Small models and reference results that several test files use."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import lclip

GOLDEN = Path(__file__).parent / "golden"
WORDS = ["red", "green", "blue", "circle", "square", "a", "photo", "of", "left", "right"]


@pytest.fixture
def golden() -> Path:
    return GOLDEN


@pytest.fixture
def reference() -> dict:
    """What the authors' implementation computed for random weights; see golden/README.md."""
    with safe_open(GOLDEN / "tiny_reference.safetensors", "pt") as file:
        content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        content["config"] = lclip.LatentCLIPConfig(**json.loads(file.metadata()["config"]))
    prefix = "weights."
    content["weights"] = {
        k.removeprefix(prefix): content.pop(k) for k in list(content) if k.startswith(prefix)
    }
    return content


@pytest.fixture
def tiny_config() -> lclip.LatentCLIPConfig:
    return lclip.LatentCLIPConfig(
        embed_dim=24,
        channels=4,
        patch_size=2,
        grid=4,
        vision_width=64,
        vision_layers=2,
        vision_heads=1,
        text_width=64,
        text_layers=2,
        text_heads=1,
        context_length=8,
        vocab_size=len(WORDS) + 4,
        latent_space="sdxl",
        tokenizer="words",
    )


@pytest.fixture
def tiny_model(tiny_config) -> lclip.LatentCLIP:
    torch.manual_seed(0)
    tokenizer = lclip.WordTokenizer(WORDS, tiny_config.context_length)
    return lclip.LatentCLIP(tiny_config, tokenizer=tokenizer).eval().requires_grad_(False)
