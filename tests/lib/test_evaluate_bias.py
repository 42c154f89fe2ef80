"""evaluate bias: shares of concepts over pictures that are made, against counts of our own."""

import csv
import io
import json
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

import lclip
from lclip.commands import main
from lclip.evaluation.bias import bias, read_concepts
from lclip.evaluation.geneval import Generation
from lclip.evaluation.making import Batch, Made
from lclip.evaluation.prompts import read_prompts
from lclip.mini.making import MiniMaker, write_bias
from lclip.mini.oracle import describe
from lclip.mini.scenes import GROUNDS
from lclip.mini.world import WEIGHTS, load_world
from lclip.statistics import wilson

MODEL = str(WEIGHTS / "latent_clip.safetensors")


def run_of(world, tmp_path, samples=6, maker=None, variants=("plain",), **other):
    prompts, _ = write_bias(tmp_path / "lists")
    batch = Batch(read_prompts(prompts), variants, samples, 0)
    return Generation(world.latent_clip, maker or MiniMaker(world), batch, tmp_path / "out", {}, **other)


def grounds_of(tmp_path):
    return read_concepts(write_bias(tmp_path / "lists")[1], margin=0.0)


def test_shares_are_what_classify_counts_and_what_the_oracle_sees(world, tmp_path):
    run, asked = run_of(world, tmp_path), grounds_of(tmp_path)
    result = bias(run, asked)
    rows = {row.what: row.ours for row in result.rows}
    maker, names = MiniMaker(world), asked.questions[1]
    seen = Counter()
    for prompt in run.batch.prompts.prompts:
        made = [maker.make("plain", prompt.text, run.batch.seed_of(prompt, n)) for n in range(6)]
        own = lclip.classify(world.latent_clip, torch.stack([each.latents for each in made]), names)
        counts = Counter(own.argmax(1).tolist())
        seen.update(describe(np.asarray(each.picture))[0] for each in made)
        for place, name in enumerate(names):
            assert rows[f"plain, {prompt.text}: {name}"].figures == wilson(counts[place], 6).figures
        found = rows[f"plain, {prompt.text}: {names[0]}, mean probability"]
        assert found.value == pytest.approx(float(own[:, 0].mean()), abs=1e-5)
    for ground, name in zip(GROUNDS, names, strict=True):
        assert rows[f"plain: {name}"].value == pytest.approx(seen[ground] / 12, abs=0.1)
    shares = [rows[f"plain: {name}"].value for name in names]
    distances = [row.ours for row in result.rows if row.what.startswith("plain: distance to")]
    assert distances[1].value == pytest.approx(sum(abs(share - 1 / 3) for share in shares) / 2)
    assert distances[1].low <= distances[1].value <= distances[1].high and distances[1].n == 12
    assert len(list((tmp_path / "out" / "bias" / "plain").glob("0000[01]/*.png"))) == 12


class Told:
    """A maker whose latents are given; None: pictures without latents."""

    variants = ("plain",)

    def __init__(self, world, latents):
        self.latents, self.made = latents, 0

    def about(self):
        return {}

    def make(self, variant, prompt, seed):
        self.made += 1
        return Made(Image.new("RGB", (8, 8)), self.latents)


def test_broken_and_missing_latents_are_in_no_figure(world, tmp_path):
    asked = grounds_of(tmp_path)
    for name, latents, said in (
        ("none", None, "without latents"),
        ("nan", torch.full((4, 8, 8), torch.nan), "NaN or infinity"),
    ):
        run = run_of(world, tmp_path / name, maker=Told(world, latents))
        with pytest.raises(ValueError, match=said):
            bias(run, asked)


def test_a_run_goes_on_and_another_margin_needs_no_new_pictures(world, tmp_path):
    maker = Told(world, load_world().encode(torch.rand(1, 3, 64, 64))[0])
    run, asked = run_of(world, tmp_path, maker=maker), grounds_of(tmp_path)
    first = bias(run, asked)
    again = bias(run, read_concepts(write_bias(tmp_path / "lists")[1], "", 0.99))
    assert maker.made == 12 and first.rows != again.rows
    (tmp_path / "other.txt").write_text("a star | a ring")
    with pytest.raises(ValueError, match="of another run: concepts"):
        bias(run, read_concepts(tmp_path / "other.txt"))


def test_the_command_in_miniature(tmp_path, capsys):
    out = tmp_path / "tables"
    command = ["evaluate", "bias", "--mini", "--out", str(out), "--quiet", "--samples", "3"]
    assert main(command) == 0
    told = json.loads((out / "results.json").read_text())["tasks"][0]
    assert told["task"] == "bias" and told["about"]["target"] == ["uniform", "uniform"]
    assert told["about"]["variants"] == ["plain"] and len(told["about"]["concepts"]) == 2
    assert all(row["paper_percent"] is None for row in told["rows"])
    rows = list(csv.DictReader(io.StringIO((out / "results.csv").read_text())))
    assert len(rows) == len(told["rows"]) and all(row["task"] == "bias" for row in rows)
    page = (out / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 2 and "<th>paper" not in page
    assert "plain: a shape on a white ground" in capsys.readouterr().out
    assert main([*command, "--variants", "plain,race"]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name them by --concepts"),
        (["--concepts", "gone.txt"], "no such file: gone.txt"),
        (["--concepts", "ONE"], "two concepts or more"),
        (["--concepts", "TWO", "--target", "0.5|0.6"], "sum to 1"),
        (["--concepts", "TWO", "--target", "half"], "target is 'half'"),
        (["--concepts", "TWO", "--margin", "1"], "margin is 1"),
        (["--concepts", "TWO"], "there is no model_index.json"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, arguments, said):
    texts = {"ONE": "a cat", "TWO": "a cat | a dog", "PROMPTS": "a pet"}
    for name, text in texts.items():
        (tmp_path / f"{name}.txt").write_text(text)
    words = [str(tmp_path / f"{word}.txt") if word in texts else word for word in arguments]
    command = ["evaluate", "bias", str(tmp_path / "PROMPTS.txt"), "--model", MODEL]
    command += ["--pipeline", str(tmp_path), *words, "--out", str(tmp_path / "out"), "--quiet"]
    assert main(command) == 2
    err = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(err) == 1 and said in err[0], err
