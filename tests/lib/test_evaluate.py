"""Evaluation: figures against counts of our own, resuming, the paper's column, and bad input by name."""

import csv
import importlib.util
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import command_world
import numpy as np
import pytest
import torch
from PIL import Image

import lclip
from lclip.commands import main
from lclip.evaluation import published
from lclip.evaluation.classes import Classes, find_classes
from lclip.evaluation.imagenet_names import imagenet_names
from lclip.evaluation.items import Inputs, plain, read_captions
from lclip.evaluation.pictures import PictureToLatents
from lclip.evaluation.results import Row, TaskResult, write_results
from lclip.evaluation.tasks import Setup, imagenet, ranks_of_own, retrieval
from lclip.mini.evaluation import CLASSES, TEMPLATES, write_captioned, write_classes
from lclip.model.latent_clip import stored_name
from lclip.statistics import wilson
from lclip.training.towers import MODELS

PROJECT = (Path(lclip.__file__).parents[1] / "pyproject.toml").read_text("utf-8")


def pixels(path):
    return torch.from_numpy(np.asarray(Image.open(path).convert("RGB")) / 255).float().permute(2, 0, 1)


def setup(world, tmp_path, paths, encoder=None, **other):
    return Setup(world.latent_clip, Inputs(tuple(paths), encoder), tmp_path / "out", **other)


def test_all_in_miniature_writes_one_page(tmp_path, capsys):
    out = tmp_path / "tables"
    few = ["--limit", "2", "--iterations", "3"]
    assert main(["evaluate", "--mini", "all", "--out", str(out), "--quiet", *few]) == 0
    told = json.loads((out / "results.json").read_text())
    made = ["geneval", "compbench", "i2p", "bias"]
    assert [task["task"] for task in told["tasks"]] == ["imagenet", "retrieval", *made]
    for task in told["tasks"]:
        about = task["about"]
        assert task["paper"].startswith('There is no column "paper"') and not task["notes"]
        assert about["latent_space"] == "mini" and about["size_rule"] and about["torch"] == torch.__version__
        assert len(about["model"]) == 16 and about["seed"] == 0
        assert about["lclip"] == re.search(r'^version = "(.+)"', PROJECT, re.MULTILINE)[1]
        assert about.get("vae") == "mini" or about["maker"] == "mini"
        assert all(
            row["paper_percent"] is None and row["low"] <= row["value"] <= row["high"] for row in task["rows"]
        )
    assert told["tasks"][0]["rows"][0]["value"] > 0.8
    page = (out / "index.html").read_text()
    assert (
        page.count("data:image/png;base64,") == 24 + 3 * 2 * 4 + 2
        and "http" not in page
        and "<th>paper" not in page
    )
    rows = list(csv.DictReader(io.StringIO((out / "results.csv").read_text())))
    assert {row["task"] for row in rows} >= {"imagenet", "retrieval", *made}
    assert "top-1" in capsys.readouterr().out


def test_lists_stand_beside_the_figures_by_their_hashes(world, tmp_path, encoder):
    """Another class, template or caption is another hash, where the counts are the same."""
    folder = write_classes(tmp_path)
    lists = {name: (folder / f"{name}.txt").read_text() for name in ("classes", "templates")}

    def hashes(**other):
        for name, text in {**lists, **other}.items():
            (tmp_path / f"{name}.txt").write_text(text)
        classes = find_classes([], tmp_path / "classes.txt", tmp_path / "templates.txt")
        run = setup(world, tmp_path / str(len(seen)), [folder / "pictures"], encoder)
        seen.append({n: h for n, h in imagenet(run, classes).about.items() if n.endswith("_sha256")})
        return seen[-1]

    seen = []
    first = hashes()
    assert set(first) == {"classes_sha256", "templates_sha256"} and hashes() == first
    other = hashes(classes=lists["classes"].replace("circle", "disc"))
    assert other["classes_sha256"] != first["classes_sha256"]
    other = hashes(templates=lists["templates"].replace("a ", "one ", 1))
    assert other["templates_sha256"] != first["templates_sha256"]
    captioned = write_captioned(tmp_path / "captioned", 12) / "captioned"
    told = [retrieval(setup(world, tmp_path / "a", [captioned], encoder)).about["captions_sha256"]]
    (captioned / "000.txt").write_text("a blue cross on a white ground")
    told.append(retrieval(setup(world, tmp_path / "b", [captioned], encoder)).about["captions_sha256"])
    assert told[0] != told[1]


def test_top_1_is_what_classify_finds(world, tmp_path, encoder):
    folder = write_classes(tmp_path)
    result = imagenet(
        setup(world, tmp_path, [folder / "pictures"], encoder),
        find_classes([], folder / "classes.txt", folder / "templates.txt"),
    )
    right = 0
    for name in CLASSES:
        for path in (folder / "pictures" / name.replace(" ", "_")).iterdir():
            shares = lclip.classify(world.latent_clip, world.encode(pixels(path)[None]), CLASSES, TEMPLATES)
            right += CLASSES[int(shares.argmax())] == name
    assert result.rows[0].ours.figures == wilson(right, 60).figures
    assert result.rows[1].ours.value >= result.rows[0].ours.value


def test_a_class_without_a_picture_is_told(world, tmp_path, encoder):
    folder = write_classes(tmp_path)
    empty = CLASSES[3].replace(" ", "_")
    for path in (folder / "pictures" / empty).iterdir():
        path.unlink()
    run = setup(world, tmp_path, [folder / "pictures"], encoder)
    result = imagenet(run, find_classes([], folder / "classes.txt", folder / "templates.txt"))
    assert result.rows[0].ours.n == 55 and not result.notes
    (told,) = result.remarks
    assert told.startswith(f"of 12 classes 1 have no item here, such as {empty}")


def test_retrieval_is_what_a_table_of_cosines_says(world, tmp_path, encoder):
    folder = write_captioned(tmp_path, 40) / "captioned"
    result = retrieval(setup(world, tmp_path, [folder], encoder), ways=20)
    z = world.encode(torch.stack([pixels(path) for path in sorted(folder.glob("*.png"))]))
    texts = [path.read_text() for path in sorted(folder.glob("*.txt"))]
    cosine = lclip.similarity(world.latent_clip, z, texts).numpy()
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0)).numpy()
    found = {"latents to text": 0, "text to latents": 0}
    for group in (order[:20], order[20:]):
        part = cosine[np.ix_(group, group)]
        for name, table in (("latents to text", part), ("text to latents", part.T)):
            found[name] += sum(
                all(table[i, j] < table[i, i] for j in range(20) if texts[group[j]] != texts[group[i]])
                for i in range(20)
            )
    shares = {row.what: row.ours for row in result.rows}
    assert shares["latents to text, recall at 1"].figures == wilson(found["latents to text"], 40).figures
    assert shares["text to latents, recall at 1"].figures == wilson(found["text to latents"], 40).figures


def test_a_tie_counts_against_and_the_same_caption_does_not():
    one = torch.tensor([[1.0, 0.0]] * 3)
    assert ranks_of_own(one, one, torch.tensor([0, 1, 2])).tolist() == [3, 3, 3]
    assert ranks_of_own(one, one, torch.tensor([0, 0, 2])).tolist() == [2, 2, 3]
    assert ranks_of_own(torch.eye(3), torch.eye(3), torch.arange(3)).tolist() == [1, 1, 1]


def test_what_cannot_be_missed_is_no_figure(world, tmp_path, encoder):
    """Captions that are all one, and the first five of five classes."""
    folder = write_captioned(tmp_path, 12) / "captioned"
    for path in folder.glob("*.txt"):
        path.write_text("a red circle")
    with pytest.raises(ValueError, match="all 12 items have the caption 'a red circle'"):
        retrieval(setup(world, tmp_path, [folder], encoder))
    folder = write_classes(tmp_path / "classes")
    few = tmp_path / "few.txt"
    few.write_text("".join(f"{line}\n" for line in (folder / "classes.txt").read_text().splitlines()[:5]))
    result = imagenet(
        setup(world, tmp_path / "few", [folder / "pictures"], encoder),
        find_classes([], few, folder / "templates.txt"),
    )
    assert [row.what for row in result.rows] == ["top-1"]


def test_latents_made_before_give_the_same_figures(world, tmp_path, encoder):
    """In a tar with captions, and without a VAE."""
    folder = write_captioned(tmp_path, 24) / "captioned"
    members = []
    for path in sorted(folder.glob("*.png")):
        z = encoder(Image.open(path))
        members += [
            (f"{path.stem}.npy", command_world.npy(z)),
            (f"{path.stem}.txt", path.with_suffix(".txt").read_bytes()),
        ]
    tar = command_world.write_tar(tmp_path / "shard.tar", members)
    with_vae = retrieval(setup(world, tmp_path / "a", [folder], encoder))
    without = retrieval(setup(world, tmp_path / "b", [tar]))
    assert [row.ours for row in with_vae.rows] == [row.ours for row in without.rows]
    assert with_vae.shown[0].png != without.shown[0].png and len(without.shown) == 12


def test_a_killed_run_goes_on_and_encodes_nothing_twice(world, tmp_path, encoder, monkeypatch):
    folder = write_captioned(tmp_path, 30) / "captioned"
    whole = retrieval(setup(world, tmp_path / "whole", [folder], encoder))
    encoded = []
    real = PictureToLatents.__call__

    def counted(self, picture):
        encoded.append(1)
        if len(encoded) == 18:
            raise KeyboardInterrupt
        return real(self, picture)

    monkeypatch.setattr(PictureToLatents, "__call__", counted)
    part = setup(world, tmp_path / "part", [folder], encoder, batch=5)
    with pytest.raises(KeyboardInterrupt):
        retrieval(part)
    table = tmp_path / "part" / "out" / "retrieval.jsonl"
    done = len(table.read_text().splitlines()) if table.exists() else 0
    assert 0 < done < 30
    with table.open("a") as file:
        file.write('{"file": "half a li')
    encoded.clear()
    encoded += [1] * 100
    again = retrieval(part)
    assert len(encoded) - 100 == 30 - done
    assert [row.ours for row in again.rows] == [row.ours for row in whole.rows]
    with pytest.raises(ValueError, match="of another run: seed was 0, now 1"):
        retrieval(replace(part, seed=1))


def test_a_released_layout_with_a_vae_from_a_folder(tmp_path, capsys):
    """The README's two commands: a training file as released, of few weights, is made small, and asked about
    pictures of 512 pixels through SDXL's kind of VAE."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    sizes = dict(embed_dim=32, channels=4, patch_size=8, grid=8, latent_space="sdxl", context_length=77)
    sizes |= dict(
        vision_width=64, vision_layers=1, vision_heads=1, text_width=64, text_layers=1, text_heads=1
    )
    model = lclip.LatentCLIP(lclip.LatentCLIPConfig(**sizes, vocab_size=49408)).requires_grad_(False).eval()
    weights = {f"module.{stored_name(name)}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"epoch": 34, "state_dict": weights}, tmp_path / "epoch_34.pt")
    small = tmp_path / "latent-clip-b-8.safetensors"
    assert main(["convert", str(tmp_path / "epoch_34.pt"), str(small)]) == 0
    model = lclip.load(small)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    widths = {"block_out_channels": (32, 32, 32, 32), "latent_channels": 4, "scaling_factor": 0.13025}
    diffusers.AutoencoderKL(**blocks, **widths).save_pretrained(tmp_path / "vae")
    names = ("tench", "goldfish", "great white shark")
    for number, name in enumerate(names):  # one picture for each class
        noise = np.random.default_rng(number).integers(0, 255, (40, 60, 3), dtype=np.uint8)
        (tmp_path / "val").mkdir(exist_ok=True)
        Image.fromarray(noise).save(tmp_path / "val" / f"{name.replace(' ', '_')}.png")
    (tmp_path / "classes.txt").write_text("\n".join(names))
    (tmp_path / "templates.txt").write_text("a photo of a {}.")
    command = ["evaluate", "imagenet", "--model", small, "--vae", tmp_path / "vae"]
    command += [
        tmp_path / "val",
        "--classes",
        tmp_path / "classes.txt",
        "--templates",
        tmp_path / "templates.txt",
    ]
    assert main([*map(str, command), "--out", str(tmp_path / "out"), "--quiet", "--device", "cpu"]) == 0
    told = json.loads((tmp_path / "out" / "results.json").read_text())["tasks"][0]["about"]
    assert told["diffusers"] == diffusers.__version__
    rows = list(csv.DictReader((tmp_path / "out" / "imagenet.csv").open()))
    assert [row["class"] for row in rows] == sorted(names, key=lambda name: name.replace(" ", "_"))
    encode = PictureToLatents(str(tmp_path / "vae"), "sdxl", 512)
    for row in rows:
        z = encode(Image.open(tmp_path / "val" / f"{row['class'].replace(' ', '_')}.png"))
        shares = lclip.classify(model, z[None], names, ["a photo of a {}."])[0]
        assert int(float(row["rank"])) == 1 + int((shares > shares[names.index(row["class"])]).sum())


def test_open_clips_lists_are_read_as_it_has_them():
    spec = importlib.util.find_spec("open_clip")
    if spec is None:
        pytest.skip("open_clip_torch is not installed")
    path = Path(spec.submodule_search_locations[0]) / "zero_shot_metadata.py"
    loader = importlib.util.spec_from_file_location("metadata", path)
    module = importlib.util.module_from_spec(loader)
    loader.loader.exec_module(module)
    names, templates = imagenet_names()
    assert names == tuple(module.IMAGENET_CLASSNAMES)
    assert [t.format("dog") for t in templates] == [make("dog") for make in module.OPENAI_IMAGENET_TEMPLATES]


def test_imagenets_folders_by_wordnet_id_and_by_name(tmp_path):
    names, templates = imagenet_names()
    for number in range(1000):
        (tmp_path / "val" / f"n{number * 7:08}").mkdir(parents=True)
    found = find_classes([tmp_path / "val"], None, None)
    assert found.imagenet and found.templates == templates
    assert found.texts[found.ids.index("n00000007")] == names[1]
    (tmp_path / "val" / "n00000000").rmdir()
    with pytest.raises(
        ValueError, match="999 of the names are WordNet ids, such as n00000007; expected all 1000"
    ):
        find_classes([tmp_path / "val"], None, None)
    flat = tmp_path / "flat"
    flat.mkdir()
    for name in ("great_white_shark", "tench"):
        (flat / f"{name}.jpg").touch()
    by_name = find_classes([flat], None, None).by_name
    assert by_name[plain("Great_White_Shark")] == "002 great white shark" and by_name["0"] == "000 tench"


def test_the_papers_column_only_for_the_same_row(world, monkeypatch, tmp_path, encoder):
    for name, figure in (("b-8", 68.8), ("b-4-plus", 73.5)):
        model = lclip.LatentCLIP(MODELS[name], device="meta")
        assert published.beside_imagenet(model, True, 50_000).of("top-1")[0] == figure
        assert published.beside_imagenet(model, True, 50_000).of("top-5") == (None, "")
    folder = write_classes(tmp_path)
    classes = find_classes([], folder / "classes.txt", folder / "templates.txt")
    run = setup(world, tmp_path, [folder / "pictures"], encoder)
    same = Classes(classes.ids, classes.texts, classes.templates, True)
    assert "not the shape of a released one" in imagenet(run, same).paper
    monkeypatch.setattr(published, "shape_of", lambda model: "b-8")
    monkeypatch.setattr(published, "VALIDATION", 60)
    other = imagenet(run, classes)
    assert other.rows[0].paper is None and "classes or templates are others" in other.paper
    found = imagenet(run, same)
    assert (found.rows[0].paper, found.rows[1].paper) == (68.8, None)
    monkeypatch.setattr(published, "VALIDATION", 50_000)
    other = imagenet(run, same)
    assert other.rows[0].paper is None and "60 pictures count here" in other.paper
    assert other.paper in write_results(tmp_path, [other]).read_text().replace("&quot;", '"').replace(
        "&#x27;", "'"
    )


def test_the_page_escapes_what_it_shows(tmp_path):
    rows = [Row("<b>1</b>", wilson(1, 2), 68.8, 'a "table"')]
    page = write_results(tmp_path, [TaskResult("x", "<i>", {"a": "</pre>"}, rows, ["<script>"])]).read_text()
    for bad in ("<b>1", "<i>", "<script>", '{"a": "</pre>'):
        assert bad not in page
    assert "<th>paper</th>" in page and "68.8 %" in page and "a &quot;table&quot;" in page


def test_what_cannot_be_read_is_told_and_stops_nothing(tmp_path, capsys):
    folder = write_captioned(tmp_path, 12) / "captioned"
    (folder / "000.png").write_bytes(b"no picture")
    (folder / "001.txt").unlink()
    command = ["evaluate", "retrieval", "--model", str(lclip.mini.world.WEIGHTS / "latent_clip.safetensors")]
    command += ["--vae", "mini", str(folder), "--out", str(tmp_path / "out"), "--quiet"]
    assert main(command) == 1
    told = capsys.readouterr()
    assert (
        "n = 10" in told.out and "2 items could not be read" in told.err and "000.png: no picture" in told.err
    )
    assert "no format of pictures that Pillow knows" in told.err and "object at 0x" not in told.err
    errors = [
        json.loads(line)["error"] for line in (tmp_path / "out" / "retrieval.jsonl").read_text().splitlines()
    ]
    assert sum(error is not None for error in errors) == 2 and "there is no caption beside it" in errors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["all", "--model", "MODEL"], "nothing to read"),
        (["all", "--model", "MODEL", "PICTURES"], "all is for --mini"),
        (["imagenet", "--mini", "PICTURES"], "--mini brings its own"),
        (["imagenet", "--model", "MODEL", "nowhere"], "nowhere"),
        (["imagenet", "--model", "MODEL", "--vae", "mini", "PICTURES"], "named as a class of ImageNet"),
        (
            ["imagenet", "--model", "MODEL", "--vae", "mini", "PICTURES", "--classes", "gone.txt"],
            "no such file: gone",
        ),
        (
            ["imagenet", "--model", "MODEL", "--vae", "mini", "PICTURES", "--classes", "LIST"],
            "expected at least two",
        ),
        (["retrieval", "--model", "MODEL", "--vae", "mini-16", "PICTURES"], "16 channels"),
        (["retrieval", "--model", "MODEL", "--vae", "gone", "PICTURES"], "there is no VAE 'gone'"),
        (["retrieval", "--model", "MODEL", "PICTURES"], "PICTURES"),
        (
            ["retrieval", "--model", "MODEL", "--vae", "mini", "PICTURES", "--captions", "LIST"],
            "has the columns",
        ),
        (
            ["retrieval", "--model", "MODEL", "--vae", "mini", "PICTURES", "--ways", "50"],
            "expected at least 50",
        ),
        (["retrieval", "--mini", "--out", "LIST"], "is a file; expected a folder"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, arguments, said):
    folder = write_captioned(tmp_path, 3) / "captioned"
    for path in folder.iterdir():  # a number alone could be the class of that number
        path.rename(path.with_name(f"mine{path.name}"))
    (tmp_path / "list").write_text("one\n")
    places = {
        "MODEL": lclip.mini.world.WEIGHTS / "latent_clip.safetensors",
        "PICTURES": folder,
        "LIST": tmp_path / "list",
    }
    words = [str(places.get(word, word)) for word in arguments]
    if "--out" not in words:
        words += ["--out", str(tmp_path / "out")]
    assert main(["evaluate", *words, "--quiet"]) == 2
    err = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(err) == 1 and said.replace("PICTURES", folder.name) in err[0], err


def test_captions_from_a_csv(tmp_path):
    path = tmp_path / "captions.csv"
    path.write_text("image,caption\nsub/7.png,a red star\n8,blue\n9.png,\n", encoding="utf-8")
    assert read_captions(path) == {"7.png": "a red star", "7": "a red star", "8": "blue"}
    path.write_text("image,caption\n9.png,\n", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no caption"):
        read_captions(path)


def test_several_workers_find_the_same_and_do_nothing_twice(world, tmp_path, encoder, monkeypatch):
    """Two processes, each with a model and a VAE of its own."""
    from lclip.bulk.questions import ModelSource
    from lclip.evaluation import items
    from lclip.evaluation.workers import Crew
    from lclip.mini.world import WEIGHTS, load_latent_clip

    monkeypatch.setattr(items, "PER_SHARD", 7)
    folder = write_captioned(tmp_path, 14) / "captioned"
    (folder / "003.png").write_bytes(b"no picture")
    crew = Crew(ModelSource(WEIGHTS / "latent_clip.safetensors", "cpu", read=load_latent_clip), 2, "plain")
    alone = retrieval(setup(world, tmp_path / "alone", [folder], encoder), ways=5)
    many = setup(world, tmp_path / "many", [folder], encoder, crew=crew)
    found = retrieval(many, ways=5)
    assert [row.ours for row in found.rows] == [row.ours for row in alone.rows]
    assert len(found.shown) == 12 and found.notes[0].startswith("1 items could not be read")
    tables = sorted((tmp_path / "many" / "out" / "retrieval-tables").glob("files*.jsonl"))
    before = [table.stat().st_mtime_ns for table in tables]
    again = retrieval(many, ways=5)
    assert [row.ours for row in again.rows] == [row.ours for row in alone.rows]
    assert [table.stat().st_mtime_ns for table in tables] == before and len(tables) == 2
    with pytest.raises(ValueError, match="of another run: seed was 0, now 1"):
        retrieval(replace(many, seed=1), ways=5)
