"""An interrupted run goes on: no item twice, none lost, no half line; memory does not grow with it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from command_world import (
    ROOT,
    npy,
    pictures,
    read_csv,
    read_jsonl,
    run,
    save_model,
    start,
    write_files,
    write_shard,
    write_tar,
)
from peak_memory import counted


@pytest.fixture
def tiny(tmp_path):
    return save_model(tmp_path)


def asked(tiny, inputs, out, *more):
    return ("score", "--model", tiny, "--text", "blood", inputs, "--out", out, *more)


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT", "SIGTERM"])
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_a_run_that_is_killed_goes_on(tmp_path, tiny, how):
    shard, out = write_shard(tmp_path / "a.tar", pictures(400)), tmp_path / "s.csv"
    arguments = asked(tiny, shard, out, "--batch", 1)
    with start(*arguments) as process:
        while not out.exists() or out.stat().st_size < 500:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.send_signal(getattr(signal, how))
        process.wait(600)
    before = read_csv(out)
    assert 0 < len(before) < 400
    assert run(*arguments) == 0
    rows = read_csv(out)
    assert [row["item"] for row in rows] == [f"{index:05}" for index in range(400)]
    whole = tmp_path / "whole.csv"
    assert run(*asked(tiny, shard, whole, "--batch", 1)) == 0 and read_csv(whole) == rows


def test_a_parquet_that_was_interrupted_goes_on(tmp_path, tiny, capsys):
    pq = pytest.importorskip("pyarrow.parquet")
    folder, out = write_files(tmp_path / "in", pictures(5)), tmp_path / "e.parquet"
    ask = ("embed", "--model", tiny, folder, "--out")
    assert run(*ask, tmp_path / "e.jsonl") == 0
    lines = (tmp_path / "e.jsonl").read_bytes()
    (tmp_path / "e.parquet.unfinished.jsonl").write_bytes(lines[: lines.index(b"00003.npy")])
    settings = (tmp_path / "e.jsonl.settings.json").read_text()
    (tmp_path / "e.parquet.settings.json").write_text(settings)
    sources = (tmp_path / "e.jsonl.sources.jsonl").read_text()
    (tmp_path / "e.parquet.sources.jsonl").write_text(sources)
    assert run(*ask, out) == 0
    assert "3 of them in earlier runs" in capsys.readouterr().err
    found = pq.read_table(out).to_pylist()
    for row, line in zip(found, read_jsonl(tmp_path / "e.jsonl"), strict=True):
        torch.testing.assert_close(torch.tensor(row.pop("embedding")), torch.tensor(line.pop("embedding")))
        assert row == line
    assert not (tmp_path / "e.parquet.unfinished.jsonl").exists()
    assert run(*ask, out) == 2 and "finished already" in capsys.readouterr().err
    assert run(*ask, out, "--overwrite") == 0


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_table_cut_anywhere_becomes_whole_again(tmp_path, tiny, suffix):
    folder, out = write_files(tmp_path / "in", pictures(4)), tmp_path / f"s{suffix}"
    assert run(*asked(tiny, folder, out)) == 0
    whole = out.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    read = read_csv if suffix == ".csv" else read_jsonl
    expected = read(out)
    assert len(expected) == 4
    for cut in sorted({*range(0, len(whole), 29), *ends, *(end - 1 for end in ends)}):
        out.write_bytes(whole[:cut])
        assert run(*asked(tiny, folder, out)) == 0
        kept = max((end for end in ends if end <= cut), default=0)
        assert out.read_bytes()[:kept] == whole[:kept]
        for row, was in zip(read(out), expected, strict=True):
            # What is asked again is asked in a smaller batch, which adds up in another order.
            assert float(row.pop("blood")) == pytest.approx(float(was["blood"]), rel=1e-4, abs=1e-5)
            assert row == {name: value for name, value in was.items() if name != "blood"}


def test_new_files_are_added_and_finished_ones_are_not_read_again(tmp_path, tiny, capsys):
    folder, out = write_files(tmp_path / "in", pictures(3)), tmp_path / "s.csv"
    assert run(*asked(tiny, folder, out)) == 0
    (folder / "0.npy").write_bytes(npy(pictures(1, seed=5)[0]))  # sorts before the others
    assert run(*asked(tiny, folder, out)) == 0
    assert [row["file"][-7:] for row in read_csv(out)] == ["000.npy", "001.npy", "002.npy", "n/0.npy"]
    assert "(3 of them in earlier runs)" in capsys.readouterr().err
    before = out.read_bytes()
    assert run(*asked(tiny, folder, out)) == 0 and out.read_bytes() == before


def test_another_question_or_model_is_refused(tmp_path, tiny, capsys):
    folder, out = write_files(tmp_path / "in", pictures(2)), tmp_path / "s.csv"
    assert run(*asked(tiny, folder, out)) == 0
    before = out.read_bytes()
    for command in (
        ("score", "--model", tiny, "--text", "arm", folder, "--out", out),
        ("score", "--mini", "--text", "blood", folder, "--out", out),
        ("embed", "--model", tiny, folder, "--out", out),
        ("score", "--model", tiny, "--text", "blood", folder, "--out", out, "--size-rule", "crops"),
    ):
        assert run(*command) == 2 and out.read_bytes() == before
        assert "is of another run" in capsys.readouterr().err
    assert run("score", "--model", tiny, "--text", "arm", folder, "--out", out, "--overwrite") == 0
    assert list(read_csv(out)[0]) == ["file", "item", "arm", "note", "error"]


def test_a_file_that_is_no_such_table_is_left_alone(tmp_path, tiny, capsys):
    folder, out = write_files(tmp_path / "in", pictures(2)), tmp_path / "s.csv"
    out.write_text("my,own\n1,2\n")
    assert run(*asked(tiny, folder, out)) == 2 and out.read_text() == "my,own\n1,2\n"
    assert "which says how it was made" in capsys.readouterr().err
    out.unlink()
    assert run(*asked(tiny, folder, out)) == 0
    out.write_text("my,own\n1,2\n")
    assert run(*asked(tiny, folder, out)) == 2 and "damaged, or was changed" in capsys.readouterr().err
    (tmp_path / "s.csv.settings.json").write_text("[")
    assert run(*asked(tiny, folder, out)) == 2 and "is damaged" in capsys.readouterr().err
    assert out.read_text() == "my,own\n1,2\n"


def test_odd_names_come_back_as_themselves(tmp_path, tiny, capsys):
    z = pictures(4)
    names = ['a,"quoted".npy', "line\nbreak.npy", "ünïcode.npy", " blank .npy"]
    write_tar(tmp_path / "a.tar", [(name, npy(latents)) for name, latents in zip(names, z, strict=True)])
    for out in (tmp_path / "s.csv", tmp_path / "s.jsonl"):
        for _ in range(2):
            assert run(*asked(tiny, tmp_path / "a.tar", out)) == 0
        rows = read_csv(out) if out.suffix == ".csv" else read_jsonl(out)
        assert [row["item"] for row in rows] == ['a,"quoted"', "line\\nbreak", "ünïcode", " blank "]


PEAK = """
import json, sys
from lclip.commands import main
from peak_memory import peak_memory
code = main(sys.argv[1:])
print(json.dumps([code, peak_memory() >> 10]))
"""


def peak_kib(*arguments) -> int:
    """Peak memory of a command in a process of its own."""
    command = [sys.executable, "-c", PEAK, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    code, peak = json.loads(result.stdout.splitlines()[-1])
    assert code == 0, result.stderr
    return peak


@counted
def test_memory_does_not_grow_with_the_number_of_latents(tmp_path, tiny):
    z, peaks = pictures(50), {}
    for name, number in {"few": 200, "many": 6_000}.items():
        write_files(tmp_path / name / "files", (z[index % 50] for index in range(number // 2)))
        write_shard(tmp_path / name / "a.tar", (z[index % 50] for index in range(number // 2)))
        arguments = asked(tiny, tmp_path / name, tmp_path / f"{name}.csv", "--batch", 64)
        peaks[name] = peak_kib(*arguments), peak_kib(*arguments)  # the second finds all there already
    assert len(read_csv(tmp_path / "many.csv")) == 6_000
    # All latents together have 6 MB, their rows as Python holds them more; torch's own peak varies by some.
    for fresh_or_again in range(2):
        assert peaks["many"][fresh_or_again] - peaks["few"][fresh_or_again] < 4096, peaks


def test_a_key_that_a_tar_holds_twice_is_asked_twice_after_an_interruption_too(tmp_path, tiny, capsys):
    """As tar --append makes them; by the first alone, an unsafe second one would pass unseen."""
    members = [(f"{key}.npy", npy(z)) for key, z in zip("01021", pictures(5), strict=True)]
    shard, out = write_tar(tmp_path / "a.tar", members), tmp_path / "s.csv"
    assert run(*asked(tiny, shard, out)) == 0
    lines, whole = out.read_text().splitlines(keepends=True), read_csv(out)
    assert [row["item"] for row in whole] == list("01021") and len({row["blood"] for row in whole}) == 5
    for kept in range(1, 7):
        out.write_text("".join(lines[:kept]))
        assert run(*asked(tiny, shard, out, "--batch", 2)) == 0
        rows = read_csv(out)
        assert [row["item"] for row in rows] == list("01021")
        values = [[float(row["blood"]) for row in each] for each in (rows, whole)]
        assert values[0] == pytest.approx(values[1], abs=1e-5)
    assert "5 latents scored (5 of them in earlier runs)" in capsys.readouterr().err


@pytest.mark.parametrize("begun", [None, 5, []])
def test_what_was_written_by_hand_ends_in_no_traceback(tmp_path, tiny, capsys, begun):
    shard, out = write_shard(tmp_path / "a.tar", pictures(3)), tmp_path / "s.jsonl"
    assert run(*asked(tiny, shard, out)) == 0
    about = tmp_path / "s.jsonl.settings.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "begun_in": begun}))
    assert run(*asked(tiny, shard, out)) == 0
    out.write_text('{"file": 5}\n')
    assert run(*asked(tiny, shard, out)) == 2
    assert "is damaged, or was changed" in capsys.readouterr().err
