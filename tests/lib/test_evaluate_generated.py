"""Tasks that make pictures: their lists, what they keep, a killed run, pipelines from folders, bad input."""

import csv
import hashlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import lclip
from lclip.commands import main
from lclip.evaluation.comfyui import ComfyMaker, filled, read_workflow
from lclip.evaluation.geneval import Generation, _of_own_scorer, geneval
from lclip.evaluation.journal import Journal
from lclip.evaluation.making import IN_A_ROW, Batch, Made
from lclip.evaluation.pipelines import Efforts, PipelineMaker
from lclip.evaluation.prompts import Prompt, PromptList, read_i2p, read_prompts
from lclip.evaluation.published import beside_geneval
from lclip.mini.making import MiniMaker, contents, right, write_geneval, write_i2p
from lclip.mini.oracle import judge, shows_unsafe
from lclip.mini.scenes import caption
from lclip.mini.world import WEIGHTS
from lclip.training.towers import MODELS

ROOT = Path(__file__).resolve().parents[2]
MINI = str(WEIGHTS / "latent_clip.safetensors")


def run_of(world, tmp_path, variants, samples=1, limit=3, maker=None, **other):
    prompts = read_prompts(write_geneval(tmp_path / "lists")).first(limit)
    maker = maker or MiniMaker(world)
    batch = Batch(prompts, variants, samples, 0)
    return Generation(world.latent_clip, maker, batch, tmp_path / "out", {}, right(), **other)


def test_pictures_lie_as_genevals_scorer_reads_them(world, tmp_path):
    run = run_of(world, tmp_path, ("plain", "race"), samples=2)
    result = geneval(run)
    for variant in ("plain", "race"):
        folders = sorted((tmp_path / "out" / "geneval" / variant).iterdir())
        assert [folder.name for folder in folders] == ["00000", "00001", "00002"]
        for folder, prompt in zip(folders, run.batch.prompts.prompts, strict=True):
            lines = (folder / "metadata.jsonl").read_text().splitlines()  # the scorer reads the first one
            assert json.loads(lines[0]) == prompt.meta and prompt.meta["prompt"] == prompt.text
            assert sorted(p.name for p in (folder / "samples").iterdir()) == ["00000.png", "00001.png"]
            assert Image.open(folder / "samples" / "00000.png").size == (64, 64)
    rows = {row.what: row for row in result.rows}
    scenes = {caption(scene): scene for scene in contents(16, 0)}
    seen = [
        judge(
            np.asarray(Image.open(tmp_path / "out/geneval/plain" / f"{p.place:05}/samples/{n:05}.png")),
            scenes[p.text],
        )
        for p in run.batch.prompts.prompts
        for n in range(2)
    ]
    truth = rows["plain: shows the prompt, by the oracle of pixels"].ours
    assert truth.value == sum(each.correct for each in seen) / 6
    assert (
        rows["race: cosine of picture and prompt"].ours.value
        > rows["plain: cosine of picture and prompt"].ours.value
    )
    assert not rows["race: cosine of picture and prompt"].share


def test_a_cosine_is_that_of_the_pictures_latents(world, tmp_path):
    run = run_of(world, tmp_path, ("plain",), limit=1)
    geneval(run)
    row = json.loads((tmp_path / "out" / "geneval.jsonl").read_text())
    made = run.maker.make("plain", row["text"], row["seed"])
    picture = Image.open(tmp_path / "out/geneval/plain/00000/samples/00000.png")
    assert np.array_equal(np.asarray(made.picture), np.asarray(picture))
    assert row["cosine"] == pytest.approx(
        float(lclip.similarity(world.latent_clip, made.latents[None], [row["text"]])), abs=1e-5
    )


def test_what_genevals_own_scorer_wrote_stands_beside(world, tmp_path):
    run = run_of(world, tmp_path, ("plain",), limit=2)
    geneval(run)
    own = [("a", True), ("a", True), ("b", False), ("b", True), ("b", False), ("b", False)]
    lines = [json.dumps({"filename": "x.png", "tag": tag, "correct": right}) for tag, right in own]
    (tmp_path / "out" / "geneval" / "plain" / "results.jsonl").write_text("\n".join(lines))
    rows = {row.what: row.ours.value for row in geneval(run).rows}
    assert rows["plain: GenEval's scorer, overall"] == pytest.approx((1.0 + 0.25) / 2)
    assert rows["plain: GenEval's scorer, b"] == 0.25
    places = [("00000", True), ("00001", False), ("00002", False)]  # the last of a run with a larger limit
    lines = [
        {"filename": f"plain/{n}/samples/00000.png", "tag": "a", "correct": right} for n, right in places
    ]
    (tmp_path / "out" / "geneval" / "plain" / "results.jsonl").write_text("\n".join(map(json.dumps, lines)))
    of_these = next(row for row in geneval(run).rows if row.what == "plain: GenEval's scorer, a").ours
    assert (of_these.value, of_these.n) == (0.5, 2)
    (tmp_path / "out" / "geneval" / "plain" / "results.jsonl").write_text('{"other": 1}')
    with pytest.raises(ValueError, match="is not what GenEval's scorer writes"):
        geneval(run)


GENEVALS = {
    "single_object": 80, "two_object": 99, "counting": 80, "colors": 94, "position": 100, "color_attr": 100
}  # fmt: skip
"""Of which GenEval's list of 553 prompts is (arXiv 2310.11513)."""


class Turbo(PipelineMaker):
    """A pipeline's maker whose pipeline is not opened."""

    @property
    def pipe(self):
        made = type("StableDiffusionXLPipeline", (), {})()
        made.unet = SimpleNamespace(config=SimpleNamespace(sample_size=self.dtype == "float32" and 64 or 128))
        return made


def of_the_paper(tmp_path, world, shape="b-4-plus", **other):
    """A run of GenEval's 553 prompts with SDXL-Turbo, as far as that shows."""
    tags = [tag for tag, number in GENEVALS.items() for _ in range(number)]
    prompts = PromptList("geneval", tuple(Prompt(n, f"{n}", (tag,)) for n, tag in enumerate(tags)), "")
    call = {"num_inference_steps": 1, "guidance_scale": 0.0}
    model = lclip.LatentCLIP(MODELS[shape], device="meta") if shape else world.latent_clip
    maker = Turbo(tmp_path, model, **{"call": call, **other})
    return Generation(model, maker, Batch(prompts, ("plain", "reno"), 4, 0), tmp_path, {})


def test_the_papers_geneval_stands_beside_what_its_own_scorer_says(world, tmp_path):
    run = of_the_paper(tmp_path, world)
    for variant in ("plain", "reno"):
        path = tmp_path / "geneval" / variant / "results.jsonl"
        path.parent.mkdir(parents=True)
        whole = [json.dumps({"tag": tag, "correct": n % 2 == 0}) for tag, many in GENEVALS.items()
                 for n in range(4 * many)]  # fmt: skip
        path.write_text("\n".join(whole))
    paper = beside_geneval(run)
    rows = {row.what: row for name in ("plain", "reno") for row in _of_own_scorer(run, name, paper)}
    told = {what: row.paper for what, row in rows.items() if row.paper is not None}
    assert told == {
        "plain: GenEval's scorer, overall": 54.0,
        "plain: GenEval's scorer, two_object": 66.0,
        "plain: GenEval's scorer, counting": 45.0,
        "reno: GenEval's scorer, overall": 62.0,
        "reno: GenEval's scorer, two_object": 82.0,
        "reno: GenEval's scorer, counting": 60.0,
    }
    assert all("2503.08455" in rows[what].source for what in told)
    assert not any(row.source for row in rows.values() if row.paper is None)
    assert "no program here can tell" in paper.said
    path.write_text("\n".join(whole[:-1]))
    assert not any(row.paper for row in _of_own_scorer(run, "reno", paper))  # of fewer pictures
    other = beside_geneval(of_the_paper(tmp_path, world, "b-8")).figures
    assert other["reno overall"] == 60.0 and other["plain overall"] == 54.0


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"call": {"num_inference_steps": 4, "guidance_scale": 0.0}}, "--steps is 4"),
        ({"call": {"num_inference_steps": 1}}, "--guidance-scale None"),
        ({"call": {"num_inference_steps": 1, "guidance_scale": 0.0, "height": 1024}}, "--size is 1024"),
        ({"dtype": "float16"}, "made for 128 cells"),
        ({}, "prompts are 552 others"),
    ],
)
def test_another_row_has_no_figure_of_the_paper_and_says_why(world, tmp_path, other, reason):
    run = of_the_paper(tmp_path, world, **other)
    if not other:
        run = replace(run, batch=replace(run.batch, prompts=run.batch.prompts.first(552)))
    found = beside_geneval(run)
    assert not found.figures and 'There is no column "paper"' in found.said and reason in found.said


def test_a_search_that_is_not_the_papers_has_no_figure(world, tmp_path):
    """Neither a model of another shape nor another number of iterations; plain pictures have one."""
    for run in (
        of_the_paper(tmp_path, world, None),
        of_the_paper(tmp_path, world, efforts=Efforts(iterations=20)),
    ):
        assert {name.split()[0] for name in beside_geneval(run).figures} == {"plain"}


def test_compbenchs_texts_and_names(world, tmp_path):
    path = tmp_path / "color_val.txt"
    path.write_text("a red circle\n\na blue square / star?\n", encoding="utf-8")
    prompts = read_prompts(path)
    assert (prompts.kind, [p.text for p in prompts.prompts]) == (
        "compbench",
        ["a red circle", "a blue square / star?"],
    )
    run = replace(run_of(world, tmp_path, ("plain",)), batch=Batch(prompts, ("plain",), 2, 0), check=None)
    geneval(run)
    names = sorted(p.name for p in (tmp_path / "out" / "compbench" / "plain" / "samples").iterdir())
    assert names == [
        "a blue square   star_000002.png",
        "a blue square   star_000003.png",
        "a red circle_000000.png",
        "a red circle_000001.png",
    ]


def test_i2ps_csv_as_published(tmp_path):
    path = tmp_path / "i2p.csv"
    path.write_text(
        'unnamed,prompt,categories,hard,sd_seed,sd_guidance_scale\n0,"a, b","hate, violence",1,123.0,7\n'
        "1,c,sexual,0,,7\n"
    )
    first, second = read_i2p(path).prompts
    assert (first.text, first.groups, first.seed) == ("a, b", ("hate", "violence"), 123)
    assert (second.groups, second.seed) == (("sexual",), None)


def test_i2p_in_miniature_counts_what_the_oracle_sees(tmp_path, capsys):
    command = [
        "evaluate",
        "i2p",
        "--mini",
        "--out",
        str(tmp_path / "out"),
        "--quiet",
        "--limit",
        "8",
        "--iterations",
        "6",
    ]
    assert main(command) == 0
    rows = {r["what"]: float(r["value"]) for r in csv.DictReader((tmp_path / "out" / "results.csv").open())}
    for variant in ("plain", "away", "guard", "gate"):
        folder = tmp_path / "out" / "i2p" / variant
        pictures = [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
        assert len(pictures) == 8
        seen = sum(map(shows_unsafe, pictures)) / 8
        assert rows[f"{variant}: unsafe by the pixel classifier, all prompts"] == seen
        grey = sum((picture == 128).all() for picture in pictures) / 8
        assert rows[f"{variant}: grey, stopped by guard or gate"] == grey
    assert rows["plain: unsafe by our policy, skull"] > 0 == rows["plain: grey, stopped by guard or gate"]
    assert rows["gate: grey, stopped by guard or gate"] == rows["plain: unsafe by our policy, all prompts"]
    assert (
        rows["gate: unsafe by our policy, all prompts"]
        == 0
        == rows["guard: unsafe by our policy, all prompts"]
    )
    assert rows["away: unsafe by our policy, all prompts"] <= rows["plain: unsafe by our policy, all prompts"]
    told = json.loads((tmp_path / "out" / "results.json").read_text())["tasks"][0]["about"]
    assert told["policy"] == "mini" and len(told["policy_digest"]) > 8 and told["prompts_sha256"]


def test_a_killed_run_goes_on(tmp_path):
    """Killed by the operating system in the middle of its work."""
    words = [
        "evaluate",
        "geneval",
        "--mini",
        "--variants",
        "plain,reno",
        "--limit",
        "3",
        "--quiet",
        "--iterations",
    ]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "lclip", *words, "10", "--out", str(killed)]
    child = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL
    )
    journal = killed / "geneval.jsonl"
    until = time.monotonic() + 120
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 4) and time.monotonic() < until:
        assert child.poll() is None, "it ended by itself"
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    child.wait(60)
    kept = journal.read_bytes()
    assert 4 <= kept.count(b"\n") < 6
    with journal.open("ab") as file:
        file.write(b'{"variant": "ren')
    assert main([*words, "10", "--out", str(killed)]) == 0
    assert main([*words, "10", "--out", str(whole)]) == 0
    assert journal.read_bytes().startswith(kept)
    for path in sorted(whole.rglob("*.png")):
        assert path.read_bytes() == (killed / path.relative_to(whole)).read_bytes()
    first, second = ([json.loads(line) for line in (f / "geneval.jsonl").open()] for f in (killed, whole))
    assert [row["cosine"] for row in first] == [row["cosine"] for row in second]
    with pytest.raises(ValueError, match="of another run: iterations was 10, now 41"):
        Journal(
            journal, {**json.loads((killed / "geneval.jsonl.settings.json").read_text()), "iterations": 41}
        )


@pytest.mark.parametrize("task", ["geneval", "i2p", "bias"])
def test_a_try_with_a_limit_goes_on_with_another(tmp_path, capsys, task):
    """What was made is not made again, and figures are of the prompts that are asked for now."""
    out = tmp_path / "out"
    command = [
        "evaluate",
        task,
        "--mini",
        "--variants",
        "plain",
        "--samples",
        "1",
        "--quiet",
        "--out",
        str(out),
    ]

    def counted(limit):
        assert main([*command, "--limit", limit]) == 0, capsys.readouterr().err
        told = json.loads((out / "results.json").read_text())["tasks"][0]
        assert told["about"]["prompts"] == int(limit) and len(told["about"]["prompts_sha256"]) == 64
        return (out / f"{task}.jsonl").read_text().splitlines(), max(row["n"] for row in told["rows"])

    first, n = counted("1")
    assert len(first) == n == 1
    second, n = counted("2")
    assert len(second) == n == 2 and second[0] == first[0]
    again, n = counted("1")
    assert again == second and n == 1
    assert "plain: pictures of other prompts lie in the folder too (1)" in (out / "index.html").read_text()


class Breaks:
    """A maker that fails for some seeds."""

    variants = ("plain",)

    def __init__(self):
        self.bad, self.asked = set(), []

    def about(self):
        return {}

    def make(self, variant, prompt, seed):
        self.asked.append(seed)
        if seed in self.bad:
            raise RuntimeError("out of\nmemory")
        return Made(
            Image.new("RGB", (64, 64)), torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(seed))
        )


def test_a_picture_that_fails_is_told_and_tried_again(world, tmp_path):
    maker = Breaks()
    run = run_of(world, tmp_path, ("plain",), maker=maker, limit=4)
    seeds = [run.batch.seed_of(prompt, 0) for prompt in run.batch.prompts.prompts]
    maker.bad = {seeds[1]}
    result = geneval(run)
    assert result.notes == ["1 pictures could not be made. The first: out of memory"]
    assert result.rows[0].ours.n == 3
    maker.bad = set()
    assert geneval(run).notes == [] and maker.asked == [*seeds, seeds[1]]
    (tmp_path / "out/geneval/plain/00002/samples/00000.png").unlink()
    geneval(run)
    assert maker.asked[-1] == seeds[2]


def test_a_maker_that_is_broken_is_left(world, tmp_path):
    maker = Breaks()
    run = run_of(world, tmp_path, ("plain",), maker=maker, limit=16)
    maker.bad = {run.batch.seed_of(prompt, 0) for prompt in run.batch.prompts.prompts}
    with pytest.raises(ValueError, match="pictures in a row could not be made.*the last: out of memory"):
        geneval(run)
    assert len(maker.asked) == IN_A_ROW


def test_a_damaged_table_is_refused_by_its_line(tmp_path):
    journal = Journal(tmp_path / "x.jsonl", {"a": 1})
    journal.add({"variant": "plain", "prompt": 0, "sample": 0})
    (tmp_path / "x.jsonl").write_text('{"variant": "plain"}\n')
    with pytest.raises(ValueError, match="line 1 is damaged"):
        Journal(tmp_path / "x.jsonl", {"a": 1})


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A model of a released layout in a few weights, and tiny pipelines in folders."""
    tiny_pipelines = pytest.importorskip("tiny_pipelines")
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("open_clip_torch, whose vocabulary is read, is not installed")
    folder = tmp_path_factory.mktemp("released")
    torch.manual_seed(0)
    towers = {
        f"{t}_{w}": n for t in ("vision", "text") for w, n in (("width", 64), ("layers", 1), ("heads", 1))
    }
    sizes = {"embed_dim": 32, "channels": 4, "patch_size": 2, "grid": 4, "latent_space": "sdxl"}
    config = lclip.LatentCLIPConfig(**sizes, **towers, context_length=77, vocab_size=49408)
    lclip.save_checkpoint(lclip.LatentCLIP(config).eval(), folder / "model.safetensors")
    for kind in ("SDXL", "SD3"):
        tiny_pipelines.pipeline(kind).save_pretrained(folder / kind)
    (folder / "prompts.jsonl").write_text(
        '{"tag": "color", "include": [], "prompt": "a photo of a red circle"}\n'
    )
    (folder / "i2p.csv").write_text("prompt,categories,sd_seed\na red circle,hate,7\na blue square,hate,8\n")
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["SDXL", "SD3"])
def test_a_pipeline_from_a_folder(released, tmp_path, capsys, kind):
    out = tmp_path / "out"
    command = [
        "evaluate",
        "geneval",
        "--model",
        released / "model.safetensors",
        "--pipeline",
        released / kind,
    ]
    command += [
        released / "prompts.jsonl",
        "--out",
        out,
        "--quiet",
        "--device",
        "cpu",
        "--steps",
        "2",
        "--samples",
        "1",
    ]
    command += ["--iterations", "3", "--candidates", "4", "--size", "64"]
    assert main([*map(str, command)]) == 0, capsys.readouterr().err
    rows = {r["what"]: float(r["value"]) for r in csv.DictReader((out / "results.csv").open())}
    cosine = {
        name: rows[f"{name}: cosine of picture and prompt"] for name in ("plain", "reno", "race", "guidance")
    }
    assert cosine["reno"] >= cosine["plain"] and cosine["race"] >= cosine["plain"]
    about = json.loads((out / "results.json").read_text())["tasks"][0]["about"]
    assert about["pipeline_space"] == {"SDXL": "sdxl", "SD3": "sd3"}[kind] and about["diffusers"]
    made = json.loads((out / "geneval.jsonl").read_text().splitlines()[0])
    assert made["variant"] == "plain"
    import diffusers

    pipe = diffusers.DiffusionPipeline.from_pretrained(released / kind)
    own = pipe(
        "a photo of a red circle",
        height=64,
        width=64,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(made["seed"]),
    )
    kept = Image.open(out / "geneval/plain/00000/samples/00000.png")
    assert np.abs(np.asarray(own.images[0]).astype(int) - np.asarray(kept)).max() <= 1


def evaluated(released, out, *more, task="geneval", prompts="prompts.jsonl"):
    """The exit code of a small run of a pipeline."""
    command = ["evaluate", task, "--model", released / "model.safetensors", released / prompts]
    command += ["--out", out, "--quiet", "--device", "cpu", "--samples", "1", *more]
    return main([*map(str, command)])


@pytest.mark.filterwarnings("ignore")
def test_a_pipeline_that_takes_no_prompt_is_one_line(released, tmp_path, capsys):
    import tiny_pipelines

    tiny_pipelines.of_classes().save_pretrained(tmp_path / "dit")
    capsys.readouterr()
    assert evaluated(released, tmp_path / "out", "--pipeline", tmp_path / "dit") == 2
    err = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lclip")]
    assert len(err) == 1 and "DiTPipeline takes no prompt, but class_labels" in err[0]
    assert not (tmp_path / "out" / "geneval.jsonl").exists()
    more = ["--pipeline", released / "SD3", "--variants", "plain", "--size", "64"]
    assert evaluated(released, tmp_path / "out", *more, "--steps", "1") == 0


@pytest.mark.filterwarnings("ignore")
def test_a_pipeline_that_decodes_by_itself_ends_the_run_at_once(released, tmp_path, capsys, monkeypatch):
    import tiny_pipelines

    from lclip.evaluation import pipelines

    pipe = tiny_pipelines.pipeline("SDXL")
    decodes = type("Decodes", (type(pipe),), {})
    asked = []

    def call(self, prompt=None, output_type="pil", **other):
        asked.append(prompt)
        return type(pipe).__call__(self, prompt, **other)

    decodes.__call__ = call
    monkeypatch.setattr(pipelines, "open_pipeline", lambda *_: decodes(**pipe.components))
    assert evaluated(released, tmp_path / "out", "--pipeline", released / "SDXL", "--steps", "1") == 2
    err = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lclip")]
    assert len(err) == 1 and "Decodes gave Images, not latents: it decodes by itself" in err[0]
    assert len(asked) == 1


@pytest.mark.filterwarnings("ignore")
def test_a_variant_that_had_nothing_to_do_is_told(released, tmp_path, capsys):
    """No first step is guided, and a search's first picture is the plain one: the rows are equal."""
    out, more = tmp_path / "out", ["--pipeline", released / "SD3", "--size", "64", "--candidates", "2"]
    assert evaluated(released, out, *more, "--steps", "1", "--iterations", "1") == 0
    made = [
        (out / f"geneval/{name}/00000/samples/00000.png").read_bytes()
        for name in ("plain", "guidance", "reno")
    ]
    assert made[0] == made[1] == made[2]
    notes = json.loads((out / "results.json").read_text())["tasks"][0]["notes"]
    assert [note.partition(":")[0] for note in notes] == ["reno", "guidance"]
    assert "Give --steps 2 or more" in notes[1] and notes[1] in (out / "index.html").read_text()
    assert notes[1] in capsys.readouterr().err
    assert evaluated(released, tmp_path / "two", *more, "--steps", "2", "--iterations", "2") == 0
    assert json.loads((tmp_path / "two" / "results.json").read_text())["tasks"][0]["notes"] == []


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("judges") / "vit"
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=16,
        id2label={0: "normal", 1: "nsfw"},
        label2id={"normal": 0, "nsfw": 1},
    )
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore")
def test_i2p_with_a_pipeline_and_a_classifier(released, classifier, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["evaluate", "i2p", "--model", released / "model.safetensors", "--pipeline", released / "SD3"]
    command += [
        released / "i2p.csv",
        "--out",
        out,
        "--quiet",
        "--device",
        "cpu",
        "--steps",
        "2",
        "--size",
        "64",
    ]
    command += ["--iterations", "2", "--classifier", classifier]
    assert main([*map(str, command)]) == 0, capsys.readouterr().err
    rows = [json.loads(line) for line in (out / "i2p.jsonl").open()]
    assert {row["variant"] for row in rows} == {"plain", "away", "guard", "gate"} and len(rows) == 8
    assert {row["seed"] for row in rows} == {7, 8}
    import transformers

    ask = transformers.pipeline("image-classification", str(classifier), device="cpu")
    for row in rows:
        path = out / "i2p" / row["variant"] / f"{row['prompt']:05}_00.png"
        assert row["pixels"] == (ask(Image.open(path))[0]["label"] == "nsfw")
        assert row["blocked"] <= (row["variant"] in ("guard", "gate")) and (
            not row["blocked"] or row["policy"] is False
        )
    about = json.loads((out / "results.json").read_text())["tasks"][0]["about"]
    digest = hashlib.sha256((classifier / "config.json").read_bytes()).hexdigest()[:12]
    assert about["classifier"] == f"vit {digest} (nsfw)"
    assert about["transformers"] == transformers.__version__
    from lclip.evaluation.classifiers import packages_of

    assert packages_of(classifier) == ("transformers",)


@pytest.mark.filterwarnings("ignore")
def test_diffusers_own_checker_is_a_classifier(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    transformers = pytest.importorskip("transformers")
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    from lclip.evaluation.classifiers import open_classifier, packages_of

    tower = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    config = transformers.CLIPConfig(
        vision_config={**tower, "image_size": 224, "patch_size": 56}, text_config=tower, projection_dim=8
    )
    torch.manual_seed(0)
    checker = StableDiffusionSafetyChecker(config).eval()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    pixels = transformers.CLIPImageProcessor()(picture, return_tensors="pt").pixel_values
    with torch.no_grad():
        embedding = checker.visual_projection(checker.vision_model(pixels)[1])[0]
    for towards in (1.0, -1.0):
        checker.concept_embeds.data[:] = towards * embedding
        checker.special_care_embeds.data[:] = -embedding
        checker.concept_embeds_weights.data[:] = 0.5
        checker.special_care_embeds_weights.data[:] = 0.5
        checker.save_pretrained(tmp_path / f"checker{towards}")
        unsafe, named = open_classifier(tmp_path / f"checker{towards}")
        assert unsafe(picture) == (towards > 0) and named.startswith("checker")
        assert packages_of(tmp_path / f"checker{towards}") == ("transformers", "diffusers")
    assert diffusers


@pytest.mark.filterwarnings("ignore")
def test_a_classifier_that_answers_nan_has_seen_nothing_safe(classifier, tmp_path):
    import transformers

    from lclip.evaluation.classifiers import open_classifier

    model = transformers.ViTForImageClassification.from_pretrained(classifier)
    model.classifier.bias.data[:] = torch.nan
    model.save_pretrained(tmp_path / "broken")
    transformers.AutoImageProcessor.from_pretrained(classifier).save_pretrained(tmp_path / "broken")
    assert open_classifier(tmp_path / "broken")[0](Image.new("RGB", (32, 32)))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{bad", "is not JSON"),
        ("[1]", "holds a list; expected an object"),
        ('{"architectures": null}', "has the labels none"),
        ('{"id2label": ["nsfw"]}', "expected labels by number"),
        ('{"id2label": {"a": "nsfw"}}', "expected labels by number"),
    ],
)
def test_a_config_that_is_none_is_named(tmp_path, config, said):
    from lclip.evaluation.classifiers import open_classifier
    from lclip.evaluation.vaes import open_vae
    from lclip.latents.spaces import space_named

    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match=said) as told:
        open_classifier(tmp_path)
    assert tmp_path.name in str(told.value)
    with pytest.raises(ValueError, match=tmp_path.name):
        open_vae(str(tmp_path), space_named("sdxl"))


@pytest.mark.parametrize("pixels", [None, lambda picture: False])
def test_grey_of_a_workflow_is_counted_and_pictures_without_latents_are_told(world, tmp_path, pixels):
    """A running ComfyUI does not say that a guard in its workflow has stopped a picture; its latents do."""
    from lclip.evaluation.i2p import i2p
    from lclip.latents.neutral import neutral_latents
    from lclip.safety.judge import SafetyJudge

    picture = Image.new("RGB", (64, 64), "#808080")
    latents = {"plain": torch.randn(4, 8, 8).cumsum(2), "guard": neutral_latents("mini", (1, 4, 8, 8))[0]}
    maker = SimpleNamespace(
        variants=("plain", "guard", "blind"),
        about=dict,
        make=lambda variant, prompt, seed: Made(picture, latents.get(variant)),
    )
    prompts = PromptList("i2p", (Prompt(0, "a star", ("hate",)), Prompt(1, "a ring", ("hate",))), "hash")

    def rows_of(*variants):
        run = Generation(world.latent_clip, maker, Batch(prompts, variants, 1, 0), tmp_path / variants[0], {})
        found = i2p(run, SafetyJudge(lclip.SafetyPolicy.preset("mini"), world.latent_clip), pixels)
        return {row.what: row.ours for row in found.rows}, found.notes

    listed = PromptList("geneval", prompts.prompts, "hash")
    told = geneval(
        Generation(world.latent_clip, maker, Batch(listed, ("plain", "blind"), 1, 0), tmp_path / "g", {})
    )
    assert [note[:35] for note in told.notes] == ["blind: 2 pictures came without laten"[:35]]
    rows, notes = rows_of("plain", "guard", "blind")
    grey = [rows[f"{name}: grey, stopped by guard or gate"].value for name in ("plain", "guard", "blind")]
    assert grey == [0, 1, 0] and rows["guard: unsafe by our policy, all prompts"].value == 0
    assert len(notes) == 1 and notes[0].startswith("blind: our policy was not asked about 2 pictures")
    assert bool(rows_of("blind")[1]) == (pixels is None)


def test_a_workflow_in_api_form(tmp_path):
    path = tmp_path / "w.json"
    nodes = {
        "1": {"class_type": "CLIPTextEncode", "inputs": {"text": "best, {prompt}", "clip": ["2", 1]}},
        "3": {
            "class_type": "KSampler",
            "inputs": {"seed": 1, "noise_seed": ["9", 0], "model": ["2", 0], "cfg": 1.0},
        },
    }
    path.write_text(json.dumps(nodes))
    made = filled(read_workflow(path), 'a "red" fox', 7)
    assert made["1"]["inputs"] == {"text": 'best, a "red" fox', "clip": ["2", 1]}
    assert made["3"]["inputs"]["seed"] == 7 and made["3"]["inputs"]["noise_seed"] == ["9", 0]
    assert json.loads(path.read_text()) == nodes
    with pytest.raises(ConnectionError, match="no ComfyUI answers at http://127.0.0.1:9"):
        ComfyMaker("http://127.0.0.1:9", {"plain": nodes}).about()


COMFY = ["geneval", "--model", "MODEL", "PROMPTS", "--comfyui", "http://127.0.0.1:9"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["geneval", "--model", "MODEL"], "reads one list of prompts, got 0"),
        (["geneval", "--model", "MODEL", "gone.jsonl", "--pipeline", "FOLDER"], "no such file of prompts"),
        (["geneval", "--model", "MODEL", "PROMPTS"], "name what makes the pictures"),
        (["geneval", "--model", "MODEL", "PROMPTS", "--pipeline", "FOLDER"], "there is no model_index.json"),
        (["geneval", "--model", "MODEL", "PROMPTS", "--pipeline", "NAMELESS"], "names no pipeline;"),
        (["i2p", "--model", "MODEL", "CSV", "--pipeline", "FOLDER", "--classifier", "no"], "no is no cl"),
        (["bias", "--model", "MODEL", "PROMPTS", "--pipeline", "FOLDER", "--concepts", "TWICE"],
         "a question names 'a cat' twice"),
        (["retrieval", "--model", "MODEL", "PICTURE", "--vae", "EMPTYVAE"], "has no weights"),
        (["geneval", "--model", "MODEL", "CSV", "--pipeline", "FOLDER"], "is no entry of GenEval"),
        (["geneval", "--model", "MODEL", "EMPTY", "--pipeline", "FOLDER"], "holds no prompt"),
        (["i2p", "--model", "MODEL", "PROMPTS", "--pipeline", "FOLDER"], "at least prompt and categories"),
        (["i2p", "--model", "MODEL", "CSV", "--pipeline", "FOLDER", "--policy", "no"], "no such policy: no"),
        (["compbench", "--model", "MODEL", "PROMPTS", "--pipeline", "FOLDER"], "is no .txt with a prompt"),
        (["i2p", "--mini", "--variants", "plain,reno"], "there is no variant 'reno'; expected plain, away"),
        (["geneval", "--mini", "--pipeline", "FOLDER"], "--mini brings its own generator"),
        (["imagenet", "--model", "MODEL", "CSV", "--pipeline", "FOLDER"], "imagenet does not ask for"),
        ([*COMFY], "needs a workflow"),
        ([*COMFY, "--workflow", "x"], "expected NAME=FILE"),
        ([*COMFY, "--workflow", "a=CSV"], "is no JSON"),
        ([*COMFY, "--workflow", "a=CANVAS"], "as the canvas saves it"),
        ([*COMFY, "--workflow", "a=NOPLACE"], "no place for the prompt"),
        ([*COMFY, "--workflow", "a=API"], "no ComfyUI answers"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(tmp_path, capsys, arguments, said):
    files = {
        "PROMPTS": ("p.jsonl", '{"tag": "x", "prompt": "a red circle"}\n'),
        "CSV": ("p.csv", "prompt,categories\na,b\n"),
        "EMPTY": ("e.jsonl", "\n"),
        "CANVAS": ("c.json", '{"nodes": [], "links": []}'),
        "NOPLACE": ("n.json", '{"1": {"class_type": "X", "inputs": {"text": "a"}}}'),
        "API": ("a.json", '{"1": {"class_type": "X", "inputs": {"text": "{prompt}"}}}'),
        "TWICE": ("t.txt", "a cat | a dog\na cat | a cat\n"),
        "INDEX": ("nameless/model_index.json", "{}"),
        "SETTINGS": ("vae/config.json", '{"_class_name": "AutoencoderKL", "latent_channels": 4}'),
        "PICTURE": ("p.png", ""),
    }
    places = {"MODEL": MINI, "FOLDER": str(tmp_path)}
    places |= {"NAMELESS": str(tmp_path / "nameless"), "EMPTYVAE": str(tmp_path / "vae")}
    for name, (file, text) in files.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
        places[name] = str(tmp_path / file)
    words = [re.sub("[A-Z]{3,}$", lambda m: places.get(m[0], m[0]), word) for word in arguments]
    assert main(["evaluate", *words, "--out", str(tmp_path / "out"), "--quiet"]) == 2
    err = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(err) == 1 and said in err[0], err


def test_lists_of_the_mini_world_are_of_the_published_forms(tmp_path):
    prompts = read_prompts(write_geneval(tmp_path))
    assert prompts.kind == "geneval" and len({p.text for p in prompts.prompts}) == 16
    unsafe = [p for p in read_i2p(write_i2p(tmp_path)).prompts if p.groups == ("skull",)]
    assert len(unsafe) == 16 and all("skull" in p.text for p in unsafe)


def test_runs_of_neighbouring_seeds_share_no_noise_and_a_lists_own_seed_is_its_first_pictures():
    prompts = PromptList("geneval", (Prompt(0, "a"), Prompt(1, "b"), Prompt(2, "c", seed=77)), "hash")
    drawn = []
    for seed in (0, 1, 2):
        batch = Batch(prompts, ("plain",), samples=4, seed=seed)
        found = [[batch.seed_of(prompt, n) for n in range(4)] for prompt in prompts.prompts]
        assert found[2][0] == 77
        drawn.append({each for row in found[:2] for each in row})
    assert all(len(seeds) == 8 for seeds in drawn) and len(set().union(*drawn)) == 24
    listed = PromptList("i2p", (Prompt(0, "a", seed=7), Prompt(1, "b", seed=8)), "hash")
    own = [Batch(listed, ("plain",), 4, 0).seed_of(prompt, n) for prompt in listed.prompts for n in range(4)]
    assert len(set(own)) == 8
