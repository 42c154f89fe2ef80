"""Files of every kind: what loads, what is written, and what each damaged file is told."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import lclip
from lclip.checkpoints.checkpoint import read_checkpoint
from lclip.model.latent_clip import stored_name


def stored_weights(model: lclip.LatentCLIP) -> dict[str, torch.Tensor]:
    return {stored_name(name): tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture
def bare(tiny_model, tmp_path):
    """A writer of bare state dicts with some entries changed."""

    def write(changes=None, drop=(), container=lambda weights: weights):
        weights = stored_weights(tiny_model) | (changes or {})
        for name in drop:
            del weights[name]
        torch.save(container(weights), tmp_path / "model.pt")
        return tmp_path / "model.pt"

    return write


def refusal(path) -> str:
    with pytest.raises(lclip.CheckpointError) as caught:
        lclip.load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_round_trip(tiny_model, tmp_path):
    path = lclip.save_checkpoint(tiny_model, tmp_path / "tiny.safetensors", source_name="here")
    loaded = lclip.load(path)
    z = torch.randn(2, 4, 8, 8)
    assert loaded.config == tiny_model.config
    assert torch.equal(loaded.encode_latents(z), tiny_model.encode_latents(z))
    assert torch.equal(loaded.encode_text(["red circle"]), tiny_model.encode_text(["red circle"]))
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.logit_scale == pytest.approx(tiny_model.logit_scale)


def test_metadata(tiny_model, tmp_path):
    path = lclip.save_checkpoint(
        tiny_model, tmp_path / "tiny.safetensors", source_name="a", source_sha256="b"
    )
    with safe_open(path, "pt") as file:
        metadata, names = file.metadata(), set(file.keys())
    assert metadata["format"] == "latent-clip" and metadata["latent_space"] == "sdxl"
    assert metadata["source_name"] == "a" and metadata["source_sha256"] == "b"
    assert json.loads(metadata["config"])["grid"] == tiny_model.config.grid
    assert json.loads(metadata["tokenizer"])["vocabulary"] == tiny_model.tokenizer.to_metadata()["vocabulary"]
    assert "visual.transformer.resblocks.0.attn.in_proj_weight" in names and "logit_scale" in names


def test_heads_and_space_come_from_the_metadata(tiny_config, tmp_path):
    fields = {**vars(tiny_config), "vision_heads": 4, "latent_space": "mini"}
    model = lclip.LatentCLIP(
        lclip.LatentCLIPConfig(**fields), tokenizer=lclip.WordTokenizer(list("abcdefghij"), 8)
    )
    loaded = lclip.load(lclip.save_checkpoint(model, tmp_path / "a.safetensors"))
    assert loaded.config.vision_heads == 4 and loaded.config.latent_space == "mini"


@pytest.mark.parametrize("multiarray", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_training_checkpoint_with_numpy_scalars(tiny_model, tmp_path, multiarray):
    """The released files: numpy scalars in the optimizer, under the name of either numpy."""
    weights = {"module." + name: tensor for name, tensor in stored_weights(tiny_model).items()}
    group = {"lr": np.float64(1e-3), "betas": (0.9, 0.98), "params": [0, 1]}
    optimizer = {
        "state": {0: {"step": torch.tensor(5.0), "exp_avg": torch.zeros(3)}},
        "param_groups": [group],
    }
    content = {"epoch": 34, "name": "run", "state_dict": weights, "optimizer": optimizer}
    path = tmp_path / "epoch_34.pt"
    torch.save(content, path)
    raw = path.read_bytes()
    assert b"multiarray\nscalar" in raw
    if multiarray.encode() not in raw:  # rewrite the file as the other numpy would have written it
        path = _rewritten(path, b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    loaded = lclip.load(path)
    z = torch.randn(1, 4, 8, 8)
    assert torch.equal(loaded.encode_latents(z), tiny_model.encode_latents(z))


def _rewritten(path, old: bytes, new: bytes):
    import zipfile

    target = path.with_name("rewritten.pt")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as copy:
        for entry in source.infolist():
            content = source.read(entry)
            copy.writestr(
                entry.filename, content.replace(old, new) if entry.filename.endswith("pkl") else content
            )
    return target


def test_bare_state_dict_under_our_own_names(tiny_model, tmp_path):
    torch.save(tiny_model.state_dict(), tmp_path / "own.pt")
    weights = read_checkpoint(tmp_path / "own.pt").weights
    assert "visual.transformer.resblocks.1.attn.in_proj_bias" in weights and "logit_scale" in weights


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, None])
def test_dtype(tiny_model, tmp_path, dtype):
    path = lclip.save_checkpoint(tiny_model, tmp_path / "a.safetensors", dtype=torch.float16)
    loaded = lclip.load(path, dtype=dtype)
    assert {parameter.dtype for parameter in loaded.parameters()} == {dtype or torch.float32}
    assert loaded.encode_latents(torch.randn(1, 4, 8, 8)).dtype == torch.promote_types(
        dtype or torch.float32, torch.float32
    )


def test_weights_do_not_change_with_the_file(tiny_model, tmp_path):
    path = lclip.save_checkpoint(tiny_model, tmp_path / "a.safetensors")
    loaded = lclip.load(path)
    before = loaded.visual.proj.clone()
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(path.stat().st_size // 2))
    assert torch.equal(loaded.visual.proj, before)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pt"):
        lclip.load(tmp_path / "nothing.pt")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (b"<html><body>Not found</body></html>", "download went wrong"),
        (b"version https://git-lfs.github.com/spec/v1\n", "download went wrong"),
        (b"PK\x03\x04", "damaged or truncated"),
        (os.urandom(1000), ""),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_not_a_checkpoint(tmp_path, content, told, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    text = refusal(path)
    assert told in text or suffix == ".safetensors"


def test_a_folder(tmp_path):
    assert "folder" in refusal(tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_truncated(tiny_model, bare, tmp_path, share, kind):
    path = bare() if kind == "pt" else lclip.save_checkpoint(tiny_model, tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "truncated" in refusal(path)


def test_missing_weights_are_named(bare):
    text = refusal(bare(drop=["visual.ln_post.weight", "ln_final.bias"]))
    assert "incomplete" in text and "visual.ln_post.weight" in text and "ln_final.bias" in text
    assert "visual.conv1.weight" in refusal(bare(drop=["visual.conv1.weight"]))


def test_extra_weights_are_named(bare):
    text = refusal(bare({"visual.attn_pool.query": torch.zeros(2)}))
    assert "different architecture" in text and "visual.attn_pool.query" in text


def test_another_shape_is_named(bare):
    assert "ln_final.weight" in refusal(bare({"ln_final.weight": torch.zeros(65)}))
    assert "square" in refusal(bare({"visual.positional_embedding": torch.zeros(18, 64)}))
    assert "dimensions" in refusal(bare({"visual.conv1.weight": torch.zeros(64, 4)}))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(bare, value):
    assert "visual.proj" in refusal(bare({"visual.proj": torch.full((64, 24), value)}))


def test_weights_that_half_precision_cannot_hold_are_named(bare):
    file = bare({"visual.proj": torch.full((64, 24), 1e5)})
    with pytest.raises(lclip.CheckpointError, match="visual.proj.*NaN or infinite in torch.float16"):
        lclip.load(file, dtype=torch.float16)
    assert lclip.load(file).visual.proj.max() == 1e5


def test_other_models_are_refused_by_what_they_are(bare, tmp_path):
    assert "pictures (3 channels)" in refusal(bare({"visual.conv1.weight": torch.zeros(64, 3, 2, 2)}))
    torch.save({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(3)}, tmp_path / "sd.pt")
    assert "model.diffusion_model" in refusal(tmp_path / "sd.pt")
    save_file({"decoder.conv_in.weight": torch.zeros(3)}, tmp_path / "vae.safetensors")
    assert "decoder.conv_in.weight" in refusal(tmp_path / "vae.safetensors")


def test_doubled_weights(bare):
    text = refusal(bare({"module.visual.proj": torch.zeros(64, 24)}))
    assert "twice" in text and "visual.proj" in text


def test_whole_numbers_as_weights(bare):
    assert "visual.proj" in refusal(bare({"visual.proj": torch.zeros(64, 24, dtype=torch.long)}))


@pytest.mark.parametrize(
    ("entry", "value", "told"),
    [
        ("config", "{", "not JSON"),
        ("config", "[1]", "expected an object"),
        ("config", json.dumps({"embed_dim": 25}), "embed_dim"),
        ("config", json.dumps({"vision_heads": 7}), "heads"),
        ("config", json.dumps({"vision_heads": 0}), "vision_heads"),
        ("config", json.dumps({"colour": 1}), "colour"),
        ("tokenizer", json.dumps({"kind": "sentencepiece"}), "sentencepiece"),
        ("tokenizer", json.dumps({"kind": "words", "vocabulary": 3}), "vocabulary"),
        ("tokenizer", json.dumps({"kind": "words", "vocabulary": ["a", "a"]}), "twice"),
        ("tokenizer", json.dumps({"kind": "words", "vocabulary": ["a"]}), "tokens"),
    ],
)
def test_wrong_metadata(tiny_model, tmp_path, entry, value, told):
    path = lclip.save_checkpoint(tiny_model, tmp_path / "a.safetensors")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, {**metadata, entry: value})
    assert told in refusal(path)
