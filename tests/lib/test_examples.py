"""The Python of README.md, docs/elsewhere.md and docs/bias.md runs, with small files."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import lclip
from lclip.checkpoints.hub import RELEASED, TRAINED

ROOT = Path(lclip.__file__).parents[1]
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None,
    reason="open_clip_torch, whose vocabulary is read, is not installed",
)


def blocks(page):
    return PYTHON.findall((ROOT / page).read_text("utf-8"))


def run(page, code, **names):
    """What a block leaves behind, with these names there before it."""
    exec(compile(code, page, "exec"), names)  # noqa: S102
    return names


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder that holds, in a few random weights, what the pages call a released model."""
    torch.manual_seed(0)
    sizes = {"embed_dim": 32, "channels": 4, "patch_size": 8, "grid": 8, "latent_space": "sdxl"}
    towers = {
        f"{t}_{w}": n for t in ("vision", "text") for w, n in (("width", 64), ("layers", 1), ("heads", 1))
    }
    config = lclip.LatentCLIPConfig(**sizes, **towers, context_length=77, vocab_size=49408)
    model = lclip.LatentCLIP(config).requires_grad_(False).eval()
    lclip.save_checkpoint(model, tmp_path / "latent-clip-b-8.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def noise_and_generator(number):
    """Noise [number, 4, 64, 64], and a generator that makes latents of a picture's scale of it."""
    noise = torch.randn(number, 4, 64, 64, generator=torch.Generator().manual_seed(1))
    return noise, lambda noise: 6.0 * torch.nn.functional.avg_pool2d(noise, 5, 1, 2, count_include_pad=False)


def test_the_readme(files):
    (code,) = blocks("README.md")
    noise, generate = noise_and_generator(2)
    assert code.count("z = ...") == 1 and code.count("TextReward(") == 1
    code = code.replace("z = ...", "z = generate(noise)").replace("noise, reward)", "noise, reward, few)")
    found = run("README.md", code, noise=noise, generate=generate, few=lclip.ReNOSettings(iterations=3))
    model, z = found["model"], found["z"]
    assert lclip.similarity(model, z, ["a red fox", "a blue car"]).shape == (2, 2)
    assert lclip.heatmap(model, z, "a red fox").shape[0] == 2
    assert bool((found["result"].best_reward >= found["reward"](z) - 1e-5).all())
    assert len(found["policy"].judge(model, z)) == 2


def test_the_page_of_shares(files):
    (code,) = blocks("docs/bias.md")
    model = lclip.load("latent-clip-b-8.safetensors")
    noise, generate = noise_and_generator(6)
    assert code.count("noise, reward)") == 1
    code = code.replace("noise, reward)", "noise, reward, few)")
    given = {"lclip": lclip, "model": model, "prompt": "a pet", "noise": noise, "generate": generate}
    found = run("docs/bias.md", code, z=generate(noise), few=lclip.ReNOSettings(iterations=2), **given)
    assert set(found["found"].wanted) <= {0, 1} and len(found["found"].wanted) == 6
    assert found["result"].best_latents.shape == noise.shape


def test_a_folder_for_transformers(files):
    pytest.importorskip("transformers")
    code = blocks("docs/elsewhere.md")[0]
    lclip.convert("latent-clip-b-8.safetensors", "latent-clip-b-8-hf", to="transformers")
    z = torch.randn(2, 4, 64, 64) * 6
    seen = run("docs/elsewhere.md", code, latents=z)["seen"]
    model = lclip.load("latent-clip-b-8.safetensors")
    torch.testing.assert_close(seen.image_embeds, model.encode_latents(z), rtol=1e-4, atol=1e-5)
    texts = model.encode_text(["a red fox", "a blue car"])
    torch.testing.assert_close(seen.text_embeds, texts, rtol=1e-4, atol=1e-5)


def test_a_released_model_by_name(files, monkeypatch):
    constants = pytest.importorskip("huggingface_hub").constants
    code = blocks("docs/elsewhere.md")[1]
    root = files / "hub" / f"models--{RELEASED['b-8'].replace('/', '--')}"
    place = root / "snapshots" / ("a" * 40) / TRAINED
    for folder in (place.parent, root / "refs"):
        folder.mkdir(parents=True)
    (root / "refs" / "main").write_text("a" * 40)
    place.write_bytes((files / "latent-clip-b-8.safetensors").read_bytes())
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(files / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # nothing goes out
    model = run("docs/elsewhere.md", code, lclip=lclip)["model"]
    assert torch.equal(model.visual.proj, lclip.load("latent-clip-b-8.safetensors").visual.proj)


def test_a_loader_of_clip_benchmark(files, monkeypatch):
    diffusers = pytest.importorskip("diffusers")
    code = blocks("docs/elsewhere.md")[2]
    layers = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    widths = {"block_out_channels": (8,) * 4, "latent_channels": 4, "norm_num_groups": 4}
    vae = diffusers.AutoencoderKL(**layers, **widths, layers_per_block=1, scaling_factor=0.13025)
    vae.save_pretrained("sdxl-vae-fp16-fix")
    benchmark = ModuleType("clip_benchmark")
    benchmark.models = ModuleType("clip_benchmark.models")
    benchmark.models.TYPE2FUNC = {}
    monkeypatch.setitem(sys.modules, "clip_benchmark", benchmark)
    monkeypatch.setitem(sys.modules, "clip_benchmark.models", benchmark.models)
    found = run("docs/elsewhere.md", code)
    assert benchmark.models.TYPE2FUNC["latent_clip"] is lclip.clip_benchmark
    assert found["tokenizer"](["a red fox"]).shape == (1, 77) and found["transform"].side == 512


def test_no_block_is_left_out():
    """Those of docs/diffusers.md run in test_diffusers.py; the three lines of docs/safety.md are not run."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    counts = {page.name: len(found) for page in pages if (found := PYTHON.findall(page.read_text("utf-8")))}
    others = {"diffusers.md": 5, "safety.md": 1}
    assert counts == {"README.md": 1, "elsewhere.md": 3, "bias.md": 1, **others}
