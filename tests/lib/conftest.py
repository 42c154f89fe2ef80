"""Small models and reference results that several test files use."""

import json
from pathlib import Path

import pytest
import tiny
from safetensors import safe_open

import lclip
from lclip.evaluation.pictures import PictureToLatents
from lclip.mini.world import World, load_world

GOLDEN = Path(__file__).parent / "golden"
WORDS = ["red", "green", "blue", "circle", "square", "a", "photo", "of", "left", "right"]


@pytest.fixture(scope="module")
def world() -> World:
    """The mini world."""
    return load_world()


@pytest.fixture
def encoder(world) -> PictureToLatents:
    """Pictures to the mini world's latents."""
    return PictureToLatents.for_model("mini", world.latent_clip.config)


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
    return tiny.tiny_config(WORDS, embed_dim=24, width=64, layers=2, heads=1, latent_space="sdxl")


@pytest.fixture
def tiny_model(tiny_config) -> lclip.LatentCLIP:
    return tiny.random_model(tiny_config, WORDS)
