"""What commands write to and where they compute: consoles of few signs, closed pipes, absent devices."""

import os
import subprocess

import pytest
import torch
from command_world import npy, pictures, read_csv, run, save_model, shell, start, write_files, write_tar

NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
ODD = ("日本.npy", "naïve.npy", "☃.npy")


@pytest.fixture
def world(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, z in zip(ODD, pictures(3), strict=True):
        (folder / name).write_bytes(npy(z))
    return save_model(tmp_path), folder


@pytest.mark.parametrize(("encoding", "form"), [("cp1252", "csv"), ("ascii", "jsonl")])
def test_a_console_of_few_signs_loses_no_row(world, monkeypatch, encoding, form):
    tiny, folder = world
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    text = "snow ☃"
    done = shell("score", "--model", tiny, "--text", text, "--format", form, folder, encoding=encoding)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert len(done.stdout.splitlines()) == 3 + (form == "csv")
    chosen = shell("select", "--model", tiny, "--text", text, "-k", 3, folder, encoding=encoding)
    assert chosen.returncode == 0 and len(read_csv(chosen.stdout)) == 3


def test_such_a_console_is_told_of_faults_too(world, monkeypatch):
    tiny, folder = world
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    done = shell("score", "--model", tiny, "--text", "a", folder / "雪.npy", encoding="cp1252")
    assert done.returncode == 2 and done.stderr.strip().startswith("lclip score: ")


def test_files_are_in_unicode_whatever_the_console(world, monkeypatch, tmp_path):
    tiny, folder = world
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    out = tmp_path / "t.csv"
    assert (
        shell("score", "--model", tiny, "--text", "☃", folder, "--out", out, encoding="cp1252").returncode
        == 0
    )
    assert {os.path.basename(row["file"]) for row in read_csv(out)} == set(ODD)


@pytest.mark.parametrize("arguments", [("--help",), ("score",), ("info",)])
def test_a_reader_that_goes_away_ends_it_quietly(tmp_path, arguments):
    tiny = save_model(tmp_path)
    folder = write_files(tmp_path / "in", pictures(30))
    more = {"score": ("--model", tiny, "--text", "blood", folder, "--batch", "1")}
    more["info"] = (tiny,)
    if "--help" not in arguments:
        arguments += more[arguments[0]]
    with start(*arguments) as process:
        process.stdout.close()
        process.wait(600)
        said = process.stderr.read()
    assert "Traceback" not in said and "Exception ignored" not in said and process.returncode in (0, 141), (
        said
    )


@pytest.mark.skipif(os.name == "nt", reason="a shell's way to close it")
def test_streams_that_were_closed_before_the_start(world):
    tiny, folder = world
    import sys

    code = f'"{sys.executable}" -m lclip score --model "{tiny}" --text blood "{folder}" >&- 2>&-'
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    assert subprocess.run(["sh", "-c", code], env=environment, timeout=600).returncode == 0


def commands(tiny, folder, tmp_path):
    """Every command with --device."""
    model = ("--model", tiny)
    out = ("--out", tmp_path / "out")
    yield "score", *model, "--text", "a", folder
    yield "classify", *model, "--label", "blood", "--label", "arm", folder
    yield "select", *model, "--text", "a", folder
    yield "embed", *model, folder
    yield "safety", "--mini", "--preset", "mini", folder
    yield "adapter", "--mini", "--scenes", 4, "--out", tmp_path / "a.safetensors"
    yield "train", "--data", folder, "--latent-clip", tiny, "--steps", 1, "--batch-size", 1, *out


@NO_CUDA
@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "meta", "nonsense"])
def test_a_device_that_is_not_there_is_one_line(world, tmp_path, capsys, number, device):
    tiny, folder = world
    command, *rest = list(commands(tiny, folder, tmp_path))[number]
    assert run(command, *rest, "--device", device) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith(f"lclip {command}: device {device!r} cannot be used: ")
    assert not [line for line in said if "Traceback" in line]


def test_tar_members_with_odd_names(world, tmp_path, monkeypatch):
    tiny, _ = world
    shard = write_tar(tmp_path / "s.tar", [(f"雪{n}.npy", npy(z)) for n, z in enumerate(pictures(2))])
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    assert len(read_csv(shell("score", "--model", tiny, "--text", "a", shard, encoding="cp1252").stdout)) == 2
