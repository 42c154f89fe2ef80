"""What RESULTS.md rests on: intervals against scipy, sections that do not disturb each other."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from benchmarks import adaptation, bulk, shapes, taste
from benchmarks.__main__ import SECTIONS
from benchmarks.harness import Report, Run, ratio, time_in_turns
from benchmarks.parts import Parts
from lclip.data.reader import read_items
from lclip.latents.checks import scale_doubt
from lclip.mini import load_world
from lclip.mini.drawing import render, sample_scenes
from lclip.statistics import bootstrap, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 7), (7, 7), (31, 200), (1, 2000)])
def test_wilson_equals_scipy(successes, n):
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    interval = wilson(successes, n)
    assert interval.figures == pytest.approx((successes / n, expected.low, expected.high), abs=1e-6)


def test_bootstrap_covers_the_mean_of_a_normal_sample_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for repeat in range(100):
        interval = bootstrap(rng.normal(3.0, 2.0, size=60), seed=repeat)
        covered += interval.low <= 3.0 <= interval.high
    assert 88 <= covered <= 99


def test_seeds_of_one_prompt_count_as_one_observation():
    values = np.repeat(np.random.default_rng(1).normal(size=40), 10)
    alone, grouped = bootstrap(values), bootstrap(values, groups=np.repeat(np.arange(40), 10))
    assert alone.value == pytest.approx(grouped.value)
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_ratio_is_the_geometric_mean_per_round():
    assert ratio([2.0, 8.0], [1.0, 1.0]).value == pytest.approx(4.0)


def test_jobs_take_turns():
    calls = []
    time_in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2, at_least=0.0)
    assert calls[-4:] == ["a", "b", "b", "a"]


def test_a_section_is_replaced_alone_and_stands_in_its_order(tmp_path):
    report = Report(tmp_path / "RESULTS.md", order=("first", "second", "third"))
    for name in ("third", "first"):
        report.write(name, name.title(), f"old {name}", "note")
    report.path.write_text(report.path.read_text() + "\nA remark of a person.\n")
    report.write("second", "Second", "new second", "note")
    report.write("first", "First", "new first", "note")
    text = report.path.read_text()
    assert "old first" not in text and "A remark of a person." in text
    assert text.index("new first") < text.index("new second") < text.index("old third")


WRITER = """
import sys
from pathlib import Path
from benchmarks.harness import Report
report = Report(Path(sys.argv[1]), order=("first", "second", "third"))
for turn in range(15):
    report.write(sys.argv[2], sys.argv[2].title(), f"{sys.argv[2]} {turn}", "note")
"""


def test_processes_that_write_at_the_same_time_lose_nothing(tmp_path):
    path, root = tmp_path / "RESULTS.md", Path(__file__).parents[2]
    names = ("third", "first", "second")
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], cwd=root) for name in names]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    text = path.read_text()
    assert text.index("first 14") < text.index("second 14") < text.index("third 14")
    assert text.count("<!-- begin") == text.count("<!-- end") == 3
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_stopped_section_goes_on_with_the_parts_that_it_had_finished(tmp_path):
    done = []

    def section(run, stop_at):
        def job(number):
            if number == stop_at:
                raise KeyboardInterrupt
            done.append(number)
            return {"square": np.array([number**2])}

        return [int(run.part(f"part {n}", lambda n=n: job(n))["square"][0]) for n in range(4)]

    with pytest.raises(KeyboardInterrupt):
        section(Run(parts=Parts("section", tmp_path)), stop_at=2)
    again = Parts("section", tmp_path)
    assert section(Run(parts=again), stop_at=None) == [0, 1, 4, 9]
    assert done == [0, 1, 2, 3] and again.reused == 2
    again.forget()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "published"),
    [(shapes.SDXLDecoder, shapes.DECODER_PARAMETERS), (shapes.SDXLUNet, shapes.UNET_PARAMETERS)],
)
def test_the_rivals_have_the_published_size(kind, published):
    with torch.device("meta"):
        assert shapes.parameters(kind()) == published


def test_a_small_unet_of_that_shape_is_differentiable_in_its_noise():
    unet = shapes.build(shapes.SDXLUNet, "cpu", width=32, depths=(0, 1, 1), context=16, vector=8, head=32)
    noise = torch.randn(1, 4, 16, 16, requires_grad=True)
    out = unet(noise, torch.randn(1, 7, 16), torch.randn(1, 8))
    assert out.shape == noise.shape
    (gradient,) = torch.autograd.grad(out.sum(), noise)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_has_its_function(name):
    module, function, _ = SECTIONS[name]
    assert callable(getattr(importlib.import_module(f"benchmarks.{module}"), function))


def test_hidden_tastes_are_the_same_by_the_scene_and_by_the_oracle():
    scenes = sample_scenes(60, 5, split="dev")
    for rule in taste.RULES.values():
        by_scene = [rule(taste.of_content(scene.content)) for scene in scenes]
        assert by_scene == [rule(taste.of_picture(render(scene))) for scene in scenes]
        assert 0 < sum(by_scene) < len(scenes)


def test_the_shards_of_the_bulk_section_are_read_without_a_doubt(tmp_path):
    bulk.write_shard(tmp_path / "one.tar", 5, seed=0)
    items = list(read_items(tmp_path / "one.tar"))
    assert [item.problem for item in items] == [None] * 5
    assert {item.caption for item in items} == {"a red star"}
    assert scale_doubt(torch.stack([item.latents for item in items]), shapes.LATENT_CLIPS["B/8"]) is None


@pytest.mark.parametrize("way", adaptation.WAYS_TO_TRAIN)
def test_an_adaptation_takes_the_steps_it_says_and_distillation_leaves_the_texts_alone(way, tmp_path):
    bench = adaptation.Bench(load_world(), [], tmp_path, samples=24)
    start, distilled = adaptation.WAYS_TO_TRAIN[way]
    training = bench.training(start, distilled, 5, 8, tmp_path / "run")
    assert sum(stage.settings.steps for stage in training.stages) == 5
    begun = {name: value.clone() for name, value in training.model.state_dict().items()}
    trained = training.run().state_dict()
    changed = {name.partition(".")[0] for name in begun if not torch.equal(begun[name], trained[name])}
    assert changed == {"visual"} if distilled else {"visual", "token_embedding"} <= changed
    pixel = bench.world.pixel_clip.state_dict()
    same = torch.equal(begun["token_embedding.weight"], pixel["token_embedding.weight"])
    assert same == (start == "pixel")
