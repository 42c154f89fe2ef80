"""evaluate on real pictures through TAESD's real weights, from files to figures, where both are there."""

import csv
import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lclip
from benchmarks.real.fetching import cache_folder
from lclip.commands import main
from lclip.evaluation.pictures import PictureToLatents

TAESD = Path(os.environ.get("TAESD_PATH") or Path(lclip.__file__).parents[2] / "shared" / "data" / "taesd")
NUMBER = 6
pytest.importorskip("diffusers")
pytestmark = pytest.mark.skipif(
    not (TAESD / "taesdxl_encoder.safetensors").is_file() or importlib.util.find_spec("open_clip") is None,
    reason="needs TAESD's files in TAESD_PATH, and open_clip_torch's vocabulary",
)


def photographs():
    """Pictures by what they are called: scikit-image's, else of the cache of `make pictures`."""
    if importlib.util.find_spec("skimage") is not None:
        from skimage import data

        names = ("astronaut", "coffee", "chelsea", "rocket", "camera", "coins")
        return {name: Image.fromarray(getattr(data, name)()) for name in names}
    catalogue, found = cache_folder() / "catalogue.jsonl", {}
    for line in catalogue.read_text("utf-8").splitlines() if catalogue.is_file() else ():
        entry = json.loads(line)
        path = cache_folder() / entry["path"]
        if entry["kind"] == "photograph" and path.is_file() and len(found) < NUMBER:
            found[f"photograph {len(found)}"] = Image.open(path).convert("RGB")
    return found


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of them, and a table of their captions."""
    found = photographs()
    if len(found) < NUMBER:
        pytest.skip("needs scikit-image's pictures, or the cache of `make pictures`")
    folder = tmp_path_factory.mktemp("real")
    (folder / "pictures").mkdir()
    with (folder / "captions.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "caption"])
        for number, (name, picture) in enumerate(found.items()):
            picture.save(folder / "pictures" / f"{number:03}.png")
            table.writerow([f"{number:03}.png", f"a picture of {name}"])
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Of a released layout and size, in a few random weights."""
    torch.manual_seed(0)
    sizes = {"embed_dim": 32, "channels": 4, "patch_size": 8, "grid": 8, "latent_space": "sdxl"}
    towers = {
        f"{t}_{w}": n for t in ("vision", "text") for w, n in (("width", 64), ("layers", 1), ("heads", 1))
    }
    config = lclip.LatentCLIPConfig(**sizes, **towers, context_length=77, vocab_size=49408)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    return lclip.save_checkpoint(lclip.LatentCLIP(config).requires_grad_(False).eval(), path)


def results_of(out, task, model, pictures, *more):
    command = ["evaluate", task, "--model", model, "--vae", TAESD, pictures / "pictures", "--out", out]
    assert main([*map(str, command), "--quiet", "--device", "cpu", *map(str, more)]) == 0
    return json.loads((out / "results.json").read_text())["tasks"][0]


def test_retrieval_finds_what_a_table_of_cosines_says(pictures, model, tmp_path):
    told = results_of(tmp_path, "retrieval", model, pictures, "--captions", pictures / "captions.csv")
    encode = PictureToLatents(str(TAESD), "sdxl", 512)
    z = torch.stack([encode(Image.open(path)) for path in sorted((pictures / "pictures").iterdir())])
    assert z.shape == (NUMBER, 4, 64, 64) and lclip.scale_doubt(z, lclip.load(model).config) is None
    captions = [row["caption"] for row in csv.DictReader((pictures / "captions.csv").open())]
    cosine = lclip.similarity(lclip.load(model), z, captions)
    rows = {row["what"]: row for row in told["rows"]}
    for what, table in (("latents to text", cosine), ("text to latents", cosine.T)):
        ranks = (table >= table.diagonal()[:, None]).sum(1)
        for k in (1, 5):
            row = rows[f"{what}, recall at {k}"]
            assert (row["value"], row["n"]) == (pytest.approx(float((ranks <= k).double().mean())), NUMBER)
    assert told["about"]["picture_side"] == 512 and len(told["about"]["vae_hash"]) == 16
    assert (tmp_path / "index.html").read_text().count("data:image/png;base64,") == NUMBER


def test_what_was_encoded_is_the_picture(pictures):
    """Through the decoder it looks as it did, which says that scale, shift and cut are right."""
    encode = PictureToLatents(str(TAESD), "sdxl", 512)
    for path in sorted((pictures / "pictures").iterdir())[:2]:
        seen = encode.opened.decode(encode(Image.open(path))[None])[0].permute(1, 2, 0).numpy()
        picture = Image.open(path).convert("RGB")
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.crop((left, top, left + side, top + side)).resize(
            (512, 512), Image.Resampling.BICUBIC
        )
        assert np.abs(seen - np.asarray(square) / 255).mean() < 0.06


def test_imagenets_classes_of_ones_own(pictures, model, tmp_path):
    names = [f"{number:03}" for number in range(NUMBER)]
    (tmp_path / "classes.txt").write_text("".join(f"{n}\ta picture called {n}\n" for n in names))
    (tmp_path / "templates.txt").write_text("{} in a photo\n{} in a drawing\n")
    more = ("--classes", tmp_path / "classes.txt", "--templates", tmp_path / "templates.txt")
    told = results_of(tmp_path / "out", "imagenet", model, pictures, *more)
    assert [row["what"] for row in told["rows"]] == ["top-1", "top-5"] and told["rows"][0]["n"] == NUMBER
    assert told["notes"] == [] and told["rows"][0]["value"] <= told["rows"][1]["value"]
