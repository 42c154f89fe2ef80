"""What becomes of an evaluation when its input, its captions or its place change between two runs."""

import os
import signal
import time

import pytest
from command_world import pictures, start, write_files
from PIL import Image

from lclip.checkpoints.claims import claimed, lock_of
from lclip.commands import main
from lclip.evaluation.bias import Asked
from lclip.evaluation.bias_given import bias_of
from lclip.evaluation.items import Inputs
from lclip.evaluation.tasks import Setup, retrieval
from lclip.mini.evaluation import write_captioned
from lclip.mini.world import WEIGHTS

MINI = str(WEIGHTS / "latent_clip.safetensors")


def setup(world, out, paths, encoder=None, **other):
    return Setup(world.latent_clip, Inputs(tuple(paths), encoder), out, **other)


def ours(result):
    return [(row.what, row.ours) for row in result.rows]


def test_another_table_of_captions_is_another_run(world, tmp_path, encoder):
    """Its captions must not stand beside the figures of those before."""
    folder = write_captioned(tmp_path, 6) / "captioned"
    texts = {path.stem: path.read_text() for path in folder.glob("*.txt")}
    turned = dict(zip(texts, reversed(texts.values()), strict=True))
    one = setup(world, tmp_path / "out", [folder], encoder)
    first = retrieval(one, texts)
    assert ours(retrieval(one, texts)) == ours(first)
    for other in (turned, None):
        with pytest.raises(ValueError, match="of another run: captions was "):
            retrieval(one, other)
    asked = Asked([["a star", "a ring"]], [None])
    counted = bias_of(one, asked, texts)
    assert ours(bias_of(one, asked, texts)) == ours(counted)
    with pytest.raises(ValueError, match="of another run: captions was "):
        bias_of(one, asked, turned)


def test_a_replaced_picture_is_read_again(world, tmp_path, encoder):
    """Figures and the page are those of the pictures that are there now."""
    folder = write_captioned(tmp_path, 6) / "captioned"
    one = setup(world, tmp_path / "out", [folder], encoder)
    retrieval(one)
    for number in range(3):  # from the first three to the last, and back
        here, there = folder / f"{number:03}.png", folder / f"{5 - number:03}.png"
        content = here.read_bytes()
        here.write_bytes(there.read_bytes())
        there.write_bytes(content)
        os.utime(here, ns=(1, 1))
        os.utime(there, ns=(1, 1))
    now = retrieval(setup(world, tmp_path / "new", [folder], encoder))
    again = retrieval(one)
    assert ours(again) == ours(now)
    assert [each.png for each in again.shown] == [each.png for each in now.shown]


def test_another_vae_of_the_same_name_is_another_run(world, tmp_path, encoder, monkeypatch):
    folder = write_captioned(tmp_path, 6) / "captioned"
    one = setup(world, tmp_path / "out", [folder], encoder)
    monkeypatch.setattr("lclip.evaluation.tasks.vae_hash", lambda name: "before")
    assert retrieval(one).about["vae_hash"] == "before"
    monkeypatch.setattr("lclip.evaluation.tasks.vae_hash", lambda name: "after")
    with pytest.raises(ValueError, match="is of another run: vae_hash was 'before', now 'after'"):
        retrieval(one)


def test_figures_are_of_the_items_that_are_given_now(world, tmp_path, encoder):
    """Not of those that are gone, nor of another folder of the same name."""
    one = write_captioned(tmp_path / "a", 6) / "captioned"
    other = write_captioned(tmp_path / "b", 5, seed=9) / "captioned"
    out = tmp_path / "out"
    retrieval(setup(world, out, [one], encoder))
    (other / "004.png").write_bytes(b"no picture")
    told = retrieval(setup(world, out, [other], encoder))
    alone = retrieval(setup(world, tmp_path / "alone", [other], encoder))
    assert ours(told) == ours(alone) and told.notes == alone.notes and len(told.notes) == 1
    assert [each.png for each in told.shown] == [each.png for each in alone.shown]
    (one / "005.png").unlink()
    few = retrieval(setup(world, out, [one], encoder))
    assert few.rows[0].ours.n == 5 and not few.notes


def test_a_run_that_starts_anew_shows_its_own_pictures(world, tmp_path, encoder):
    one = write_captioned(tmp_path / "a", 4) / "captioned"
    other = write_captioned(tmp_path / "b", 4, seed=9) / "captioned"
    retrieval(setup(world, tmp_path / "out", [one], encoder))
    anew = retrieval(setup(world, tmp_path / "out", [other], encoder, overwrite=True))
    alone = retrieval(setup(world, tmp_path / "alone", [other], encoder))
    assert [each.png for each in anew.shown] == [each.png for each in alone.shown]


def test_the_order_of_rows_draws_no_other_ways(world, tmp_path, encoder):
    """A picture that came later stands at the table's end, and in its own place among the ways."""
    folder = write_captioned(tmp_path, 12) / "captioned"
    first = (folder / "000.png").read_bytes()
    (folder / "000.png").unlink()
    late = setup(world, tmp_path / "late", [folder], encoder)
    texts = {path.stem: path.read_text() for path in folder.glob("*.txt")}
    wrong = dict(zip(texts, [*list(texts.values())[3:], *list(texts.values())[:3]], strict=True))
    retrieval(late, wrong, ways=3)
    (folder / "000.png").write_bytes(first)
    whole = retrieval(setup(world, tmp_path / "whole", [folder], encoder), wrong, ways=3)
    assert 0 < whole.rows[0].ours.value < 1
    assert ours(retrieval(late, wrong, ways=3)) == ours(whole)


def say(capsys, *words):
    assert main(["evaluate", *map(str, words), "--quiet"]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(said) == 1, said
    return said[0]


def test_places_that_cannot_be(tmp_path, capsys):
    folder = write_captioned(tmp_path, 4) / "captioned"
    ask = ("retrieval", "--model", MINI, folder)
    encoded = (*ask, "--vae", "mini")
    assert "its pictures would be read as input" in say(capsys, *encoded, "--out", folder / "tables")
    assert "its pictures would be read as input" in say(capsys, *encoded, "--out", folder)
    assert "holds pictures; name the VAE to encode" in say(capsys, *ask, "--out", tmp_path / "out")
    latents = write_files(tmp_path / "latents", pictures(2))
    told = say(capsys, "retrieval", "--model", MINI, latents, "--vae", "mini", "--out", tmp_path / "out")
    assert "no pictures in the folder" in told and ".png" in told and ".npy" not in told


def test_ways_that_are_none(tmp_path, capsys):
    folder = write_captioned(tmp_path, 4) / "captioned"
    encoded = ("retrieval", "--model", MINI, folder, "--vae", "mini", "--out", tmp_path / "out")
    assert "--ways is 1; expected at least 2" in say(capsys, *encoded, "--ways", 1)
    told = say(capsys, *encoded, "--ways", 9)
    assert "4 items to retrieve, expected at least 9" in told and "nothing to read" not in told


def test_two_runs_that_would_write_the_same_are_refused(tmp_path, capsys):
    folder = write_captioned(tmp_path, 4) / "captioned"
    out = tmp_path / "out"
    out.mkdir()
    ask = ("retrieval", "--model", MINI, folder, "--vae", "mini", "--out", out)
    with claimed(out, lock_of(out)):
        assert "another run is writing to" in say(capsys, *ask)
    assert main(["evaluate", *map(str, ask), "--quiet"]) == 0
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


def test_an_interrupt_is_one_line_and_nothing_is_lost(tmp_path):
    folder = write_captioned(tmp_path, 300) / "captioned"
    out = tmp_path / "out"
    ask = ("evaluate", "retrieval", "--model", MINI, folder, "--vae", "mini", "--out", out, "--batch", 4)
    with start(*ask) as process:
        table = out / "retrieval.jsonl"
        for _ in range(1200):
            if table.exists() and table.stat().st_size:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=600)
    assert process.returncode == 130 and said.strip().splitlines() == ["lclip evaluate: interrupted"], said
    assert 0 < len(table.read_text().splitlines()) < 300
    for path in (out / "retrieval-pictures").glob("*.png"):
        Image.open(path).load()
