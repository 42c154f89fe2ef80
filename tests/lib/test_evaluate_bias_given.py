"""evaluate bias of pictures and latents that are there, against `lclip.classify` and what was drawn."""

import csv
import json
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

import lclip
from lclip.commands import main
from lclip.mini.drawing import place, render
from lclip.mini.scenes import Content
from lclip.mini.world import WEIGHTS, load_world
from lclip.statistics import wilson

MODEL = ["--model", str(WEIGHTS / "latent_clip.safetensors")]
NAMES = ["a red shape", "a blue shape"]
COLOURS = [0, 1, 1, 0, 1, 1, 0, 1, 1, 1]
"""What is drawn, by NAMES: three red, seven blue."""
PROMPTS = ["a star", "a ring"] * 5


@pytest.fixture(scope="module")
def drawn():
    rng, made = np.random.default_rng(3), []
    for prompt, colour in zip(PROMPTS, COLOURS, strict=True):
        content = Content("single", (prompt.split()[1],), (NAMES[colour].split()[1],), "white", "large")
        made.append(render(place(content, rng)))
    return np.stack(made)


@pytest.fixture(scope="module")
def latents(drawn):
    with torch.inference_mode():
        return load_world().encode(torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255)


def measured(folder, *inputs, code=0):
    """The rows and what they hang on."""
    (folder / "concepts.txt").write_text(" | ".join(NAMES))
    command = ["evaluate", "bias", *map(str, inputs), *MODEL, "--concepts", str(folder / "concepts.txt")]
    assert main([*command, "--margin", "0", "--out", str(folder / "out"), "--quiet"]) == code
    (told,) = json.loads((folder / "out" / "results.json").read_text())["tasks"]
    return {row["what"]: row for row in told["rows"]}, told


def written(folder, latents, captions=True):
    folder.mkdir()
    for number, z in enumerate(latents):
        np.savez(folder / f"{number:02}.npz", latents=z.numpy())
        if captions:
            (folder / f"{number:02}.txt").write_text(PROMPTS[number])
    return folder


def assert_true(rows, latents):
    """Over all and by prompt: hard shares count what was drawn, soft ones are the mean of `classify`."""
    soft = lclip.classify(load_world().latent_clip, latents, NAMES)
    assert soft.argmax(1).tolist() == COLOURS
    for name, chosen in (("all", range(10)), ("a star", range(0, 10, 2)), ("a ring", range(1, 10, 2))):
        for place_, concept in enumerate(NAMES):
            count = sum(COLOURS[number] == place_ for number in chosen)
            row = rows[f"{name}: {concept}"]
            assert (row["value"], row["low"], row["high"]) == pytest.approx(
                wilson(count, len(chosen)).figures
            )
            mean = float(soft[list(chosen), place_].mean())
            assert rows[f"{name}: {concept}, mean probability"]["value"] == pytest.approx(mean, abs=1e-4)


def test_a_folder_of_latents_with_prompts_beside_them(tmp_path, latents):
    rows, told = measured(tmp_path, written(tmp_path / "in", latents))
    assert_true(rows, latents)
    assert told["about"]["target"] == ["uniform"] and told["about"]["concepts"] == [NAMES]


def test_a_tar_gives_the_same(tmp_path, latents):
    folder = written(tmp_path / "in", latents)
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    assert_true(measured(tmp_path, tmp_path / "all.tar")[0], latents)


def test_pictures_through_a_vae_with_a_table_of_prompts(tmp_path, drawn, latents):
    (tmp_path / "in").mkdir()
    for number, picture in enumerate(drawn):
        Image.fromarray(picture).save(tmp_path / "in" / f"{number:02}.png")
    with (tmp_path / "prompts.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("file", "caption"), *((f"{n:02}.png", p) for n, p in enumerate(PROMPTS))]
        )
    rows, told = measured(
        tmp_path, tmp_path / "in", "--vae", "mini", "--captions", str(tmp_path / "prompts.csv")
    )
    assert_true(rows, latents)
    assert told["about"]["vae"] == "mini"


def test_without_prompts_and_with_broken_items(tmp_path, latents):
    broken = torch.cat([latents, torch.full_like(latents[:1], torch.nan)])
    rows, told = measured(tmp_path, written(tmp_path / "in", broken, captions=False), code=1)
    assert all(what.startswith("all: ") for what in rows) and rows["all: a red shape"]["n"] == 10
    assert "1 items could not be read" in told["notes"][0]


def test_where_nothing_is_clear_results_are_json_all_the_same(tmp_path, latents, capsys):
    folder = written(tmp_path / "in", latents, captions=False)
    (tmp_path / "c.txt").write_text(" | ".join(NAMES))
    command = ["evaluate", "bias", str(folder), *MODEL, "--concepts", str(tmp_path / "c.txt"), "--quiet"]
    assert main([*command, "--margin", "0.999999999", "--out", str(tmp_path / "out")]) == 0
    texts = [path.read_text() for path in (tmp_path / "out").glob("results.*")]
    texts += [(tmp_path / "out" / "index.html").read_text(), capsys.readouterr().out]
    assert not any(word in text for text in texts for word in ("NaN", "nan,", "[nan")), texts
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["tasks"][0]["rows"]
    distance = next(row for row in rows if "distance" in row["what"])
    assert 0 <= distance["low"] <= distance["value"] <= distance["high"] <= 1  # of the soft shares


@pytest.mark.parametrize("engine", ["plain", "ray"])
def test_it_goes_on_and_several_workers_say_the_same(tmp_path, latents, engine):
    if engine == "ray":
        pytest.importorskip("ray")
    folder = written(tmp_path / "in", latents)
    first = measured(tmp_path, folder)[0]
    np.savez(folder / "10.npz", latents=latents[0].numpy())
    assert measured(tmp_path, folder)[0]["all: a red shape"]["n"] == 11
    (tmp_path / "b").mkdir()
    (folder / "10.npz").unlink()
    assert measured(tmp_path / "b", folder, "--workers", "2", "--engine", engine)[0] == first


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["LIST"], "is a list of prompts: name what makes the pictures"),
        (["EMPTY", "--concepts", "TWO"], "no latents"),
        (["GONE", "--concepts", "TWO"], "no such file"),
        (["EMPTY"], "name them by --concepts"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, arguments, said):
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "LIST.txt").write_text("a pet")
    (tmp_path / "TWO.txt").write_text("a cat | a dog")
    names = {"LIST": "LIST.txt", "TWO": "TWO.txt", "EMPTY": "EMPTY", "GONE": "GONE"}
    words = [str(tmp_path / names[word]) if word in names else word for word in arguments]
    assert main(["evaluate", "bias", *words, *MODEL, "--out", str(tmp_path / "out"), "--quiet"]) == 2
    err = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(err) == 1 and said in err[0], err
