"""Layouts that others read: transformers' CLIPModel gives our embeddings, and we read its folders."""

import json
import os
import shutil

import pytest
import tiny
import torch

import lclip
from lclip.checkpoints.checkpoint import Checkpoint, normalise_keys
from lclip.checkpoints.exports import write_for_transformers
from lclip.checkpoints.layouts import from_transformers, to_transformers
from lclip.commands import main
from lclip.model.bpe import find_vocabulary
from lclip.model.latent_clip import stored_name
from lclip.training.towers import MODELS

transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5
TEXTS = ["a red fox, jumping over 2 lazy dogs!", "blue", "it's a photo of the  Eiffel tower" * 3, ""]


def released(patch, **other):
    """A model of few weights with all that is particular to the released ones."""
    fields = {
        **dict(embed_dim=48, channels=4, patch_size=patch, grid=64 // patch, latent_space="sdxl"),
        **dict(vision_width=128, vision_layers=2, vision_heads=2, text_width=64, text_layers=3, text_heads=1),
        **dict(context_length=77, vocab_size=49408),
        **other,
    }
    torch.manual_seed(patch)
    model = lclip.LatentCLIP(lclip.LatentCLIPConfig(**fields))
    for parameter in model.parameters():  # nothing is zero or one, so that no name can be mistaken
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model.requires_grad_(False).eval()


def written(model, folder, to="transformers", **other):
    path = lclip.save_checkpoint(model, folder / "model.safetensors")
    return lclip.convert(path, folder / "theirs", to=to, **other)


def theirs(folder):
    return transformers.CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()


@torch.no_grad()
def embeddings(model, z, ids):
    found = model(pixel_values=z, input_ids=ids)
    return found.image_embeds, found.text_embeds, found.logits_per_image


@pytest.mark.parametrize("patch", [8, 4])
def test_clip_model_gives_our_embeddings(tmp_path, patch):
    model, z = released(patch), torch.randn(3, 4, 64, 64) * 6
    other = theirs(written(model, tmp_path))
    ids = model.tokenizer.encode(TEXTS)
    images, texts, logits = embeddings(other, z, ids)
    torch.testing.assert_close(images, model.encode_latents(z), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(texts, model.encode_text(TEXTS), atol=TOLERANCE, rtol=0)
    ours = model.logit_scale * model.encode_latents(z) @ model.encode_text(TEXTS).T
    torch.testing.assert_close(logits, ours, atol=10 * TOLERANCE, rtol=0)


def test_their_tokenizer_gives_our_embeddings(tmp_path):
    """With their padding and attention mask, and cut where it is too long."""
    model = released(8)
    folder = written(model, tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    words = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    assert words["input_ids"].shape[1] <= 77
    with torch.no_grad():
        found = theirs(folder)(pixel_values=torch.randn(1, 4, 64, 64), **words).text_embeds
    torch.testing.assert_close(found, model.encode_text(TEXTS), atol=TOLERANCE, rtol=0)
    long = tokenizer("word " * 200, truncation=True)["input_ids"]
    assert len(long) == 77 and long[-1] == 49407


def test_a_released_shape(tmp_path):
    """The whole B/8: transformers finds every weight, and knows of no other."""
    torch.manual_seed(0)
    model = lclip.LatentCLIP(MODELS["b-8"], device="meta").eval()
    weights = {name: torch.empty(t.shape).uniform_(-0.05, 0.05) for name, t in model.state_dict().items()}
    model.load_state_dict(weights, assign=True)
    stored = {stored_name(name): tensor for name, tensor in weights.items()}
    checkpoint = Checkpoint(tmp_path, stored, model.config, {"kind": "clip-bpe"}, ())
    folder = write_for_transformers(tmp_path / "theirs", checkpoint, torch.float32, {})
    other, told = transformers.CLIPModel.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    model.requires_grad_(False)
    z, ids = torch.randn(2, 4, 64, 64) * 6, model.tokenizer.encode(TEXTS[:2])
    images, texts, _ = embeddings(other.eval(), z, ids)
    torch.testing.assert_close(images, model.encode_latents(z), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(texts, model.encode_text(TEXTS[:2]), atol=TOLERANCE, rtol=0)


def test_a_world_of_words(tmp_path, tiny_model):
    """Of another tokenizer, size and latent space, all of which come back."""
    folder = written(tiny_model, tmp_path)
    again = lclip.load(folder)
    assert again.config == tiny_model.config
    texts = ["A red circle; left of a 3 square", "blue"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    assert torch.equal(ids["input_ids"], tiny_model.tokenizer.encode(texts)[:, : ids["input_ids"].shape[1]])
    with torch.no_grad():
        found = theirs(folder)(pixel_values=torch.randn(1, 4, 8, 8), **ids).text_embeds
    torch.testing.assert_close(found, again.encode_text(texts), atol=TOLERANCE, rtol=0)


def test_it_reads_back_as_it_was(tmp_path):
    model = released(8, activation="quick_gelu")
    folder = written(model, tmp_path)
    again = lclip.load(folder)
    assert again.config == model.config and again.config.activation == "quick_gelu"
    for (name, a), b in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    back = lclip.convert(folder, tmp_path / "back.safetensors", torch.float32)
    assert torch.equal(lclip.load(back).visual.proj, model.visual.proj)


@pytest.mark.parametrize("sharded", [False, True])
def test_a_folder_that_transformers_saved(tmp_path, sharded):
    """Made there from a config alone, so it says nothing of us."""
    both = dict(
        hidden_size=64, num_attention_heads=2, num_hidden_layers=2, intermediate_size=256, hidden_act="gelu"
    )
    config = transformers.CLIPConfig(
        text_config={**both, "vocab_size": 49408},
        vision_config={**both, "num_channels": 4, "image_size": 64, "patch_size": 8},
        projection_dim=32,
    )
    other = transformers.CLIPModel(config).eval()
    other.save_pretrained(tmp_path / "saved", **({"max_shard_size": "1MB"} if sharded else {}))
    assert len(list((tmp_path / "saved").glob("*.safetensors"))) > sharded
    model = lclip.load(tmp_path / "saved")
    assert (model.config.vision_heads, model.config.latent_space) == (2, "sdxl")
    z, ids = torch.randn(2, 4, 64, 64), model.tokenizer.encode(TEXTS)
    images, texts, _ = embeddings(other, z, ids)
    torch.testing.assert_close(model.encode_latents(z), images, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(model.encode_text(TEXTS), texts, atol=TOLERANCE, rtol=0)


def test_names_go_both_ways(tiny_model):
    weights = {stored_name(name): tensor for name, tensor in tiny_model.state_dict().items()}
    back = from_transformers(to_transformers(weights))
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in weights.items())
    assert normalise_keys(back).keys() == weights.keys()


def snapshot(cache, repository, files):
    """As the hub's cache lies: links from a snapshot into blobs without suffixes."""
    root = cache / f"models--{repository.replace('/', '--')}"
    shot = root / "snapshots" / ("5" * 40)
    (root / "blobs").mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("5" * 40)
    for number, (name, path) in enumerate(files.items()):
        blob = shutil.copy(path, root / "blobs" / f"{number:064x}")
        (shot / name).parent.mkdir(parents=True, exist_ok=True)
        (shot / name).symlink_to(blob)
    return root, shot


@pytest.mark.parametrize("inside", [True, False])
def test_a_hubs_snapshot(tmp_path, tiny_model, inside):
    folder = written(tiny_model, tmp_path)
    root, shot = snapshot(tmp_path / "hub", "someone/mine", {path.name: path for path in folder.iterdir()})
    assert torch.equal(lclip.load(shot if inside else root).visual.proj, tiny_model.visual.proj)
    (root / "blobs").rename(root / "gone")
    with pytest.raises(FileNotFoundError, match="link to .*download it again"):
        lclip.load(shot)


def test_a_snapshot_with_one_training_file(tmp_path, tiny_model):
    path = lclip.save_checkpoint(tiny_model, tmp_path / "model.safetensors")
    _, shot = snapshot(tmp_path / "hub", "someone/run", {"checkpoints/epoch_34.safetensors": path})
    assert torch.equal(lclip.load(shot).visual.proj, tiny_model.visual.proj)
    assert torch.equal(lclip.load(shot / "checkpoints").visual.proj, tiny_model.visual.proj)


def edited(folder, **changes):
    about = json.loads((folder / "config.json").read_text())
    for name, value in changes.items():
        about = {**about, name: {**about[name], **value} if isinstance(value, dict) else value}
    (folder / "config.json").write_text(json.dumps(about))
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "bert"}, "model_type is 'bert'; expected 'clip'"),
        ({"vision_config": {"hidden_act": "relu"}}, "hidden_act is 'gelu' and 'relu'"),
        ({"text_config": {"layer_norm_eps": 1e-6}}, "layer_norm_eps"),
        ({"text_config": {"eos_token_id": 5}}, "eos_token_id is 5"),
        ({"text_config": {"num_attention_heads": 2}}, "says both text_heads = 2 and 1"),
        ({"text_config": 3}, "text_config is 3; expected an object"),
        ({"latent_clip": [1]}, "latent_clip is"),
        ({"latent_clip": {"version": "9"}}, "version 9"),
        ({"latent_clip": {"tokenizer": {"kind": "magic"}}}, "magic"),
    ],
)
def test_a_config_of_another_model_is_refused_by_name(tmp_path, tiny_model, changes, said):
    folder = edited(written(tiny_model, tmp_path), **changes)
    with pytest.raises(lclip.CheckpointError, match=said):
        lclip.load(folder)


def test_folders_that_hold_no_model(tmp_path, tiny_model):
    folder = written(tiny_model, tmp_path)
    with pytest.raises(lclip.CheckpointError, match="a folder without a model; expected config.json"):
        lclip.load((tmp_path / "empty").mkdir() or tmp_path / "empty")
    with pytest.raises(lclip.CheckpointError, match="give its folder, with config.json"):
        lclip.load(folder / "model.safetensors")
    (folder / "config.json").write_text("{")
    with pytest.raises(lclip.CheckpointError, match="config.json is not JSON"):
        lclip.load(folder)
    for name in ("a.pt", "b.pt"):
        (tmp_path / "empty" / name).touch()
    with pytest.raises(lclip.CheckpointError, match="2 files that may be models, such as a.pt and b.pt"):
        lclip.load(tmp_path / "empty")
    (folder / "config.json").unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../outside.safetensors"}}')
    (folder / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(lclip.CheckpointError, match="expected files beside it"):
        lclip.load(folder)


def test_a_part_of_the_attention_that_is_missing(tmp_path, tiny_model):
    weights = to_transformers({stored_name(n): t for n, t in tiny_model.state_dict().items()})
    for name in ("k_proj.weight", "q_proj.bias"):
        left = {
            n: t
            for n, t in weights.items()
            if not n.endswith(f"text_model.encoder.layers.0.self_attn.{name}")
        }
        with pytest.raises(lclip.CheckpointError, match=f"layers.0.self_attn.{name}' is missing"):
            from_transformers(left)


def test_a_failure_leaves_what_was_there(tmp_path, tiny_model, monkeypatch):
    folder = written(tiny_model, tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    source = tmp_path / "model.safetensors"

    def full(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("lclip.checkpoints.exports.write_tensors", full)
        with pytest.raises(OSError, match="no space"):
            lclip.convert(source, folder, to="transformers")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "theirs"]
    lclip.convert(source, folder, to="transformers")  # its own files it replaces
    (folder / "my notes.txt").touch()
    with pytest.raises(ValueError, match="other files, such as my notes.txt"):
        lclip.convert(source, folder, to="transformers")


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_folder_that_cannot_be_moved_in_leaves_the_old_one(tmp_path, tiny_model, monkeypatch, stubborn):
    """Full at the last step: the old folder is put back; where that fails too, it is kept and named."""
    folder = written(tiny_model, tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    replace, tried = os.replace, []

    def full(old, new):
        if new == folder:
            tried.append(old)
            if len(tried) == 1 or stubborn:
                raise OSError(28, "no space left on device")
        replace(old, new)

    monkeypatch.setattr("lclip.checkpoints.exports.os.replace", full)
    with pytest.raises(OSError, match="no space") as caught:
        lclip.convert(tmp_path / "model.safetensors", folder, to="transformers")
    left = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert len(left) == 1 and (left[0] == folder) != stubborn
    assert {path.name: path.read_bytes() for path in left[0].iterdir()} == before
    assert not stubborn or str(left[0]) in str(caught.value)


@pytest.mark.parametrize("content", ["{}", "[]", "no JSON", None])
def test_a_folder_of_others_is_replaced_only_when_asked(tmp_path, tiny_model, content):
    source = lclip.save_checkpoint(tiny_model, tmp_path / "model.safetensors")
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name in ("model.safetensors", "README.md"):
        (folder / name).write_text("theirs")
    if content is not None:
        (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match="another program.*name of a new folder"):
        lclip.convert(source, folder, to="transformers")
    assert (folder / "model.safetensors").read_text() == "theirs"
    lclip.convert(source, folder, to="transformers", overwrite=True)
    assert lclip.load(folder).config == tiny_model.config


def test_an_empty_folder_is_filled(tmp_path, tiny_model):
    (tmp_path / "theirs").mkdir()
    assert lclip.load(written(tiny_model, tmp_path)).config == tiny_model.config


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_source_is_never_replaced_by_its_copy(tmp_path, tiny_model, overwrite):
    folder = written(tiny_model, tmp_path)
    weights, link = folder / "model.safetensors", tmp_path / "link.safetensors"
    link.symlink_to(weights)
    before = weights.read_bytes()
    said = {
        weights: "theirs holds the source, model",
        folder: "theirs is the source",
        link: "theirs holds the",
    }
    for source, text in said.items():
        with pytest.raises(ValueError, match=text):
            lclip.convert(source, folder, to="transformers", overwrite=overwrite)
    for source in (folder, weights):
        with pytest.raises(ValueError, match=r"model\.safetensors is the source"):
            lclip.convert(source, weights, overwrite=overwrite)
    assert weights.read_bytes() == before and len(list(folder.iterdir())) > 3


def test_what_cannot_be_said_elsewhere(tmp_path, tiny_model):
    path = lclip.save_checkpoint(tiny_model, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="open_clip builds its image towers for pictures of 3 channels"):
        lclip.convert(path, tmp_path / "x", to="open_clip")
    with pytest.raises(ValueError, match="layout is 'onnx'; expected 'safetensors' or 'transformers'"):
        lclip.convert(path, tmp_path / "x", to="onnx")
    assert not (tmp_path / "x").exists()


def test_half_precision_says_so(tmp_path, tiny_model):
    folder = written(tiny_model, tmp_path, dtype=torch.float16)
    assert json.loads((folder / "config.json").read_text())["torch_dtype"] == "float16"
    tiny_model.visual.proj.fill_(1e5)
    with pytest.raises(lclip.CheckpointError, match="float16; choose bfloat16"):
        lclip.convert(
            lclip.save_checkpoint(tiny_model, tmp_path / "b.safetensors"),
            tmp_path / "c",
            torch.float16,
            "transformers",
        )
    assert not (tmp_path / "c").exists()


def test_the_command(tmp_path, tiny_model, capsys):
    path, folder = lclip.save_checkpoint(tiny_model, tmp_path / "m.safetensors"), tmp_path / "hf"
    assert main(["convert", str(path), "--to", "transformers", str(folder)]) == 0
    assert main(["convert", str(path), "--to", "transformers", str(folder)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["convert", str(path), "--to", "transformers", str(folder), "--overwrite"]) == 0
    assert main(["convert", str(path), "--to", "open_clip", str(tmp_path / "oc")]) == 2
    assert "3 channels" in capsys.readouterr().err
    assert main(["convert", str(path), "--to", "transformers"]) == 2
    assert "name the folder" in capsys.readouterr().err
    assert main(["info", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "Latent-CLIP"
    np_file = tmp_path / "z.npy"
    np_file.write_bytes(__import__("command_world").npy(torch.randn(4, 8, 8) * 6))
    assert (
        main(
            ["score", "--model", str(folder), "--text", "red", str(np_file), "--out", str(tmp_path / "s.csv")]
        )
        == 0
    )


def test_without_clips_vocabulary_nothing_is_written(tmp_path, monkeypatch):
    path = lclip.save_checkpoint(released(8), tmp_path / "m.safetensors")
    assert find_vocabulary().is_file()
    monkeypatch.setattr("lclip.model.bpe.PLACES", ())
    with pytest.raises(FileNotFoundError, match="vocabulary"):
        lclip.convert(path, tmp_path / "theirs", to="transformers")
    assert not (tmp_path / "theirs").exists()


def test_a_pixel_clip_is_still_refused(tmp_path):
    fields = dict(embed_dim=24, width=64, layers=1, heads=1, channels=3, latent_space="sdxl")
    model = tiny.random_model(tiny.tiny_config(["red"], **fields), ["red"])
    folder = written(model, tmp_path)
    about = json.loads((folder / "config.json").read_text())
    del about["latent_clip"]
    (folder / "config.json").write_text(json.dumps(about))
    with pytest.raises(lclip.CheckpointError, match="reads pictures"):
        lclip.load(folder)
