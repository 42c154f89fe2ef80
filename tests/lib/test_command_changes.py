"""What has changed between two runs of a command is done again, and a selection is of what is given now."""

import json
import os

import pytest
import torch
from command_world import npy, pictures, read_csv, read_jsonl, run, save_model, write_files, write_shard

from lclip.commands import select
from lclip.data.files import read_latents

Z = pictures(8, seed=4)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return save_model(tmp_path)


def replaced(path, content, later=1):
    """Another content of the same size, some time later."""
    time = path.stat().st_mtime_ns + later * 1_000_000
    path.write_bytes(content)
    os.utime(path, ns=(time, time))


def scored(tiny, inputs, out, *more):
    return run("score", "--model", tiny, *(more or ("--text", "blood")), inputs, "--out", out)


def fresh(tiny, tmp_path, inputs, *more):
    """What a first run says, by file and item."""
    out = tmp_path / "fresh.csv"
    assert scored(tiny, inputs, out, *(more or ("--text", "blood")), "--overwrite") == 0
    return pytest.approx(numbers(read_csv(out)), rel=1e-4, abs=1e-5)


def numbers(rows):
    return {(row["file"], row["item"]): float(list(row.values())[2]) for row in rows}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_file_that_was_replaced_is_done_again(tmp_path, tiny, suffix, capsys):
    folder, out = write_files(tmp_path / "in", Z[:3]), tmp_path / f"s{suffix}"
    read = read_csv if suffix == ".csv" else read_jsonl
    assert scored(tiny, "in", out) == 0
    before = numbers(read(out))
    replaced(folder / "00001.npy", npy(Z[5]))
    capsys.readouterr()
    assert scored(tiny, "in", out) == 0
    told = capsys.readouterr().err
    assert "1 rows were of files that have changed since; they are done again" in told
    assert "3 latents scored (2 of them in earlier runs)" in told
    after = numbers(read(out))
    assert len(read(out)) == 3 and after == fresh(tiny, tmp_path, "in")
    assert [key[0] for key in after if after[key] != before[key]] == ["in/00001.npy"]
    kept = out.read_bytes()
    assert scored(tiny, "in", out) == 0 and out.read_bytes() == kept


def test_the_verdict_of_another_content_is_not_kept(tmp_path, tiny, capsys):
    folder = write_files(tmp_path / "in", Z[:1])
    ask = ("safety", "--model", tiny, "--concepts", "c.txt", "in", "--out", "v.csv")
    (tmp_path / "c.txt").write_text("gore: blood // statue\n")
    run(*ask)
    (folder / "00000.npy").write_bytes(npy(torch.zeros(4, 8, 8)))
    assert run(*ask) == 1
    (row,) = read_csv(tmp_path / "v.csv")
    assert row["safe"] == "false"
    assert "(1 of them" not in capsys.readouterr().err


def test_a_shard_that_was_replaced_is_done_again_and_a_run_that_was_cut_goes_on(tmp_path, tiny, capsys):
    shard, out = write_shard(tmp_path / "a.tar", Z[:4]), tmp_path / "s.csv"
    assert scored(tiny, "a.tar", out) == 0
    whole = out.read_bytes()
    out.write_bytes(whole[: whole.index(b"00002")])
    assert scored(tiny, "a.tar", out) == 0
    assert "4 latents scored (2 of them in earlier runs)" in capsys.readouterr().err
    replaced(shard, write_shard(tmp_path / "b.tar", Z[4:]).read_bytes())
    assert scored(tiny, "a.tar", out) == 0
    assert numbers(read_csv(out)) == fresh(tiny, tmp_path, "a.tar") and len(read_csv(out)) == 4


def test_a_caption_that_was_edited_is_scored_again(tmp_path, tiny, capsys):
    folder, out = write_files(tmp_path / "in", Z[:3]), tmp_path / "s.csv"
    for index, text in enumerate(("blood", "arm")):
        (folder / f"{index:05}.txt").write_text(text)
    assert scored(tiny, "in", out, "--captions") == 1  # the third has none
    replaced(folder / "00000.txt", b"statue")
    (folder / "00002.txt").write_text("arm")
    assert scored(tiny, "in", out, "--captions") == 0
    assert "(1 of them in earlier runs)" in capsys.readouterr().err
    assert numbers(read_csv(out)) == fresh(tiny, tmp_path, "in", "--captions")
    texts = tmp_path / "t.csv"
    assert scored(tiny, "in", texts) == 0
    replaced(folder / "00000.txt", b"arm")
    kept = texts.read_bytes()
    assert scored(tiny, "in", texts) == 0 and texts.read_bytes() == kept  # which asks for no captions


def test_rows_without_a_record_are_done_again_and_those_of_files_that_are_gone_stay(tmp_path, tiny, capsys):
    folder, out = write_files(tmp_path / "in", Z[:3]), tmp_path / "s.csv"
    assert scored(tiny, "in", out) == 0
    (tmp_path / "s.csv.sources.jsonl").unlink()
    (folder / "00002.npy").unlink()
    capsys.readouterr()
    assert scored(tiny, "in", out) == 0
    assert "3 latents scored (1 of them in earlier runs)" in capsys.readouterr().err
    assert sorted(row["file"][-9:] for row in read_csv(out)) == [f"0000{index}.npy" for index in range(3)]
    (tmp_path / "s.csv.sources.jsonl").write_text('{"file": 1}\n[]\nnonsense\n')
    assert scored(tiny, "in", out) == 0 and len(read_csv(out)) == 3


def test_a_folder_of_tables_does_changed_files_again(tmp_path, tiny, capsys):
    folder = write_files(tmp_path / "in", Z[:3])
    ask = ("score", "--model", tiny, "--text", "blood", "in", "--out", "out", "--format", "csv")
    assert run(*ask) == 0 and run(*ask) == 0
    assert "(3 of them in earlier runs)" in capsys.readouterr().err
    replaced(folder / "00001.npy", npy(Z[5]))
    assert run(*ask) == 0
    (table,) = (tmp_path / "out").glob("*.csv")
    assert numbers(read_csv(table)) == fresh(tiny, tmp_path, "in")
    log = tmp_path / "out" / "finished.jsonl"
    old = json.loads(log.read_text().splitlines()[-1])
    del old["loose"]
    log.write_text(json.dumps({**old, "state": []}) + "\n")  # as the first results had it
    capsys.readouterr()
    assert run(*ask) == 0 and "3 latents scored\n" in capsys.readouterr().err


def test_a_selection_ranks_what_is_given_now(tmp_path, tiny, capsys):
    write_files(tmp_path / "s1", Z[:4])
    write_files(tmp_path / "s2", Z[4:])
    (tmp_path / "s1" / "odd.npy").write_bytes(b"nothing")
    ask = ("select", "--model", tiny, "--text", "blood", "--scores", tmp_path / "q.csv", "-k", 2)
    assert run(*ask, "s1") == 1
    capsys.readouterr()
    for target, folder in {"one": "s2", "two": tmp_path / "s2"}.items():  # by whatever path
        assert run(*ask, folder, "--save-to", target) == 0
        output = capsys.readouterr()
        rows = read_csv(output.out)
        assert [row["file"][:3] for row in rows] == ["s2/", "s2/"]
        assert "4 latents scored" in output.err and f"2 latents written to {target}" in output.err
        saved = sorted((tmp_path / target).iterdir())
        for path, row in zip(saved, rows, strict=True):
            torch.testing.assert_close(read_latents(path), read_latents(tmp_path / row["file"]))


def test_a_best_file_that_is_gone_is_not_ranked_and_its_row_stays(tmp_path, tiny, capsys):
    write_files(tmp_path / "in", Z[:4])
    ask = ("select", "--model", tiny, "--text", "blood", "in", "--scores", "q.csv")
    assert run(*ask) == 0
    best = read_csv(capsys.readouterr().out)[0]["file"]
    (tmp_path / best).unlink()
    assert run(*ask, "--save-to", "best") == 0
    assert read_csv(capsys.readouterr().out)[0]["file"] != best
    assert len(list((tmp_path / "best").iterdir())) == 1 and len(read_csv(tmp_path / "q.csv")) == 4


@pytest.mark.parametrize("more", [(), ("--scores", "q.csv")])
def test_a_chosen_file_that_goes_before_it_is_saved_is_said(tmp_path, tiny, monkeypatch, capsys, more):
    folder, save = write_files(tmp_path / "in", Z[:3]), select._save

    def gone(options, best, identity):
        (tmp_path / best[0][0]).unlink()
        return save(options, best, identity)

    monkeypatch.setattr(select, "_save", gone)
    ask = ("select", "--model", tiny, "--text", "blood", "-k", 2, folder.name, "--save-to", "best", *more)
    assert run(*ask) == 1
    output = capsys.readouterr()
    first = read_csv(output.out)[0]["file"]
    assert f"1 latents written to best; 1 could not be read again, the first: {first} 0" in output.err
    assert [path.name[:4] for path in (tmp_path / "best").iterdir()] == ["0002"]
