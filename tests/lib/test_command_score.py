"""score, classify, embed and select: what they write is what the library answers, whatever the format."""

import csv
import json
import math
import sys

import pytest
import safety_worlds
import torch
from command_world import (
    model,
    npy,
    pictures,
    read_csv,
    read_jsonl,
    run,
    save_model,
    write_files,
    write_shard,
    write_tar,
)
from sibling_latents import like

import lclip
from lclip.commands import WARNINGS_SHOWN, select
from lclip.data.files import read_latents, write_latents

TEXTS = ("a photo of blood", "an arm, a bandage")


@pytest.fixture
def tiny(tmp_path):
    return save_model(tmp_path)


def numbers(rows, column):
    return torch.tensor([float(row[column]) for row in rows])


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_scores_are_the_librarys_in_the_order_of_the_input(tmp_path, tiny):
    z = pictures(7)
    folder = write_files(tmp_path / "in", z[:5])
    write_latents(z[5:], folder / "batch.latent")
    texts = ("--text", TEXTS[0], "--text", TEXTS[1])
    assert run("score", "--model", tiny, *texts, folder, "--out", tmp_path / "s.csv", "--batch", 3) == 0
    rows = read_csv(tmp_path / "s.csv")
    places = [(f"{index:05}.npy", "0") for index in range(5)] + [("batch.latent", "0"), ("batch.latent", "1")]
    assert [(row["file"].rpartition("/")[2], row["item"]) for row in rows] == places
    expected = lclip.similarity(model(), z, TEXTS)
    for column, text in enumerate(TEXTS):
        close(numbers(rows, text), expected[:, column])


def test_captions_are_read_beside_files_and_in_shards(tmp_path, tiny):
    z = pictures(4)
    captions = ["a photo of blood", "a photo of arm", "a photo of statue", "a photo of blood"]
    write_shard(tmp_path / "in" / "a.tar", z[:3])
    write_files(tmp_path / "in" / "b", z[3:])
    (tmp_path / "in" / "b" / "00000.txt").write_text(captions[3])
    out = tmp_path / "s.jsonl"
    assert run("score", "--model", tiny, "--captions", tmp_path / "in", "--out", out) == 0
    expected = lclip.similarity(model(), z, captions).diagonal()
    close(torch.tensor([row["caption"] for row in read_jsonl(out)]), expected)
    (tmp_path / "in" / "b" / "00000.txt").unlink()
    assert run("score", "--model", tiny, "--captions", tmp_path / "in", "--out", out, "--overwrite") == 1
    last = read_jsonl(out)[-1]
    assert last["caption"] is None and "no caption" in last["error"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_format_and_the_terminal_hold_the_same(tmp_path, tiny, suffix, capsys):
    folder = write_files(tmp_path / "in", pictures(3))
    (folder / "00001.npy").write_bytes(b"broken")
    ask = ("score", "--model", tiny, "--text", TEXTS[0], folder)
    assert run(*ask) == 1
    printed = [row | {TEXTS[0]: row[TEXTS[0]] and float(row[TEXTS[0]])} for row in csv_rows(capsys)]
    expected = lclip.similarity(model(), pictures(3)[::2], TEXTS[0])[:, 0]
    close(numbers([printed[0], printed[2]], TEXTS[0]), expected)
    if suffix == ".jsonl":
        assert run(*ask, "--format", "jsonl") == 1
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert same(found, printed)
    out = tmp_path / f"s{suffix}"
    if suffix == ".parquet":
        pq = pytest.importorskip("pyarrow.parquet")
    assert run(*ask, "--out", out) == 1
    if suffix == ".parquet":
        rows = pq.read_table(out).to_pylist()
    else:
        rows = read_csv(out) if suffix == ".csv" else read_jsonl(out)
    assert same(rows, printed)


def csv_rows(capsys):
    return list(csv.DictReader(capsys.readouterr().out.splitlines()))


def same(rows, others) -> bool:
    """Whether tables agree: empty is empty in any format, and numbers need not agree in the last digit."""
    assert len(rows) == len(others) == 3
    for row, other in zip(rows, others, strict=True):
        assert list(row) == list(other)
        for name, value in row.items():
            if name == TEXTS[0] and value:
                assert float(value) == pytest.approx(other[name], rel=1e-5)
            else:
                assert (value or None) == (other[name] or None)
    return [bool(row["error"]) for row in rows] == [False, True, False]


def test_many_captions_that_are_too_long_are_told_of_a_few_times(tmp_path, tiny, caplog):
    z, length = pictures(12), model().tokenizer.context_length
    shard = write_shard(tmp_path / "a.tar", z, caption="{0} " * (length + 3))
    assert run("score", "--model", tiny, "--captions", shard, "--out", tmp_path / "s.csv", "--batch", 5) == 0
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == WARNINGS_SHOWN < 12
    assert all(f"the model reads {length}" in text for text in told)
    assert [text.endswith("(more such warnings are not shown)") for text in told] == [False] * 4 + [True]
    captions = [f"{word} " * length for word in ("blood", "arm", "statue")] * 4  # what is cut says no more
    expected = lclip.similarity(model(), z, captions).diagonal()
    close(numbers(read_csv(tmp_path / "s.csv"), "caption"), expected)
    # The next command begins to count anew.
    caplog.clear()
    assert run("score", "--model", tiny, "--captions", shard, "--out", tmp_path / "t.csv") == 0
    assert len(caplog.records) == WARNINGS_SHOWN


def test_sizes_may_be_mixed_and_unreadable_items_stop_nothing(tmp_path, tiny, capsys):
    sizes = (8, 12, 8, 6, 12, 8)
    z = [pictures(1, seed, size=size)[0] for seed, size in enumerate(sizes)]
    nan = z[0].clone()
    nan[0, 0, 0] = float("nan")
    bad = {"2x": nan, "4x": torch.randn(16, 8, 8), "5x": torch.randn(4, 1, 1)}
    members = [(f"{index}.npy", npy(latents)) for index, latents in enumerate(z)]
    members += [(f"{key}.npy", npy(latents)) for key, latents in bad.items()]
    members += [("3x.npy", b"broken")]
    write_tar(tmp_path / "a.tar", sorted(members))
    out = tmp_path / "s.jsonl"
    ask = ("score", "--model", tiny, "--text", TEXTS[0], tmp_path / "a.tar", "--batch", 4)
    assert run(*ask, "--out", out) == 1
    rows = {row["item"]: row for row in read_jsonl(out)}
    assert list(rows) == ["0", "1", "2", "2x", "3", "3x", "4", "4x", "5", "5x"]
    for index, latents in enumerate(z):
        score = torch.tensor(rows[str(index)][TEXTS[0]])
        close(score, lclip.similarity(model(), latents[None], TEXTS[0])[0, 0])
    says = {"2x": "NaN", "3x": "not a .npy file", "4x": "16 channels", "5x": "1x1 cells"}
    assert all(text in rows[key]["error"] and rows[key][TEXTS[0]] is None for key, text in says.items())
    assert "6 of 10 latents scored; 4 could not be read" in capsys.readouterr().err


def test_what_looks_scaled_is_noted_but_scored(tmp_path, tiny, capsys):
    folder = write_files(tmp_path / "in", torch.cat([pictures(1), pictures(1) / 6]))
    assert run("score", "--model", tiny, "--text", TEXTS[0], folder, "--out", tmp_path / "s.jsonl") == 0
    first, second = read_jsonl(tmp_path / "s.jsonl")
    assert first["note"] is None and "multiplied by" in second["note"] and second[TEXTS[0]] is not None
    assert "1 look odd" in capsys.readouterr().err


def of_sdxl(folder):
    return lclip.save_checkpoint(safety_worlds.tiny_clip(latent_space="sdxl"), folder / "sdxl.safetensors")


COMMANDS = {
    "score": ("--text", TEXTS[0]),
    "classify": ("--label", "blood", "--label", "arm"),
    "embed": (),
    "safety": ("--concepts", "concepts.txt"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_another_models_latents_of_the_same_shape_are_noted(tmp_path, capsys, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "concepts.txt").write_text("gore: a photo of blood // a photo of arm", encoding="utf-8")
    folder = write_files(tmp_path / "in", torch.cat([like("sdxl", 2), like("sd1.5", 2, spread=0.0)]))
    out = tmp_path / "s.jsonl"
    assert run(command, "--model", of_sdxl(tmp_path), *COMMANDS[command], folder, "--out", out) in (0, 1)
    notes = [row["note"] for row in read_jsonl(out)]
    assert notes[:2] == [None, None] and all("look like SD1.5 latents" in note for note in notes[2:])
    assert "2 look odd, the first" in capsys.readouterr().err


def test_select_tells_another_models_latents_too(tmp_path, capsys):
    folder = write_files(tmp_path / "in", like("sd1.5", 3, spread=0.0))
    assert run("select", "--model", of_sdxl(tmp_path), "--text", TEXTS[0], "-k", 1, folder) == 0
    assert "look like SD1.5 latents" in capsys.readouterr().err


def test_classes_are_the_librarys(tmp_path, tiny):
    z, labels, templates = pictures(6), ("blood", "arm", "statue"), ("{}", "a photo of {}")
    ask = [part for label in labels for part in ("--label", label)]
    ask += [part for template in templates for part in ("--template", template)]
    out = tmp_path / "c.csv"
    assert run("classify", "--model", tiny, *ask, write_files(tmp_path / "in", z), "--out", out) == 0
    rows, expected = read_csv(out), lclip.classify(model(), z, labels, templates)
    for column, label in enumerate(labels):
        close(numbers(rows, label), expected[:, column])
    assert [row["label"] for row in rows] == [labels[index] for index in expected.argmax(1).tolist()]
    close(numbers(rows, "probability"), expected.amax(1))


def test_embeddings_are_the_librarys_and_the_size_rule_is_obeyed(tmp_path, tiny):
    z = pictures(5, size=12)
    folder = write_files(tmp_path / "in", z)
    for rule in ("interpolate", "resize"):
        out = tmp_path / f"{rule}.csv"
        assert run("embed", "--model", tiny, folder, "--out", out, "--size-rule", rule, "--batch", 2) == 0
        found = torch.tensor([json.loads(row["embedding"]) for row in read_csv(out)])
        close(found, model().encode_latents(z, rule))
        close(found.norm(dim=1), torch.ones(5))


def test_select_lists_the_best_and_saves_them_for_the_host(tmp_path, tiny, capsys):
    z = pictures(12)
    folder = write_files(tmp_path / "in", z[:6])
    write_shard(folder / "shard.tar", z[6:])
    ask = ("select", "--model", tiny, "--text", TEXTS[0], "--text", TEXTS[1], "-k", 4, "--batch", 5, folder)
    assert run(*ask, "--save-to", tmp_path / "best") == 0
    printed = capsys.readouterr().out
    rows = list(csv.DictReader(printed.splitlines()))
    expected = lclip.similarity(model(), z, TEXTS).mean(1)
    best, _ = lclip.top_k(expected, 4)
    close(numbers(rows, "score"), expected[best])
    saved = sorted((tmp_path / "best").iterdir())
    assert [int(path.name[:4]) for path in saved] == [1, 2, 3, 4]
    for path, index in zip(saved, best, strict=True):
        assert path.suffix == ".latent" and torch.equal(read_latents(path)[0], z[index])
    # The same by a table, twice: the second run asks nothing any more.
    for _ in range(2):
        assert run(*ask, "--scores", tmp_path / "scores.csv") == 0
        output = capsys.readouterr()
        assert output.out == printed
    assert "12 of them in earlier runs" in output.err and len(read_csv(tmp_path / "scores.csv")) == 12


def test_select_of_fewer_and_of_unreadable_ones(tmp_path, tiny, capsys):
    folder = write_files(tmp_path / "in", pictures(2))
    (folder / "x.npy").write_bytes(b"x")
    assert run("select", "--model", tiny, "--text", TEXTS[0], "-k", 9, folder) == 1
    output = capsys.readouterr()
    assert len(output.out.splitlines()) == 3 and "1 could not be read" in output.err
    assert "select: k is 9, and there are 2 items: all of them are kept" in output.err


@pytest.mark.parametrize("table", [False, True])
def test_select_says_nothing_of_k_where_there_are_enough(tmp_path, tiny, capsys, table):
    folder = write_files(tmp_path / "in", pictures(2))
    more = ("--scores", tmp_path / "s.csv") if table else ()
    assert run("select", "--model", tiny, "--text", TEXTS[0], "-k", 2, folder, *more) == 0
    assert "k is" not in capsys.readouterr().err
    assert run("select", "--model", tiny, "--text", TEXTS[0], "-k", 3, folder, *more) == 0
    assert "k is 3, and there are 2 items" in capsys.readouterr().err


def test_a_score_that_is_no_number_comes_last():
    """In a table it is an empty cell, from a stream NaN; it is listed only where nothing else is left."""
    rows = [
        ("f", "0", [0.2]),
        ("f", "1", [math.nan]),
        ("f", "2", [None]),
        ("f", "3", [-0.5]),
        ("f", "4", [0.3]),
    ]
    assert [row[1] for row in select._best(iter(rows), 3)] == ["4", "0", "3"]
    best = select._best(iter(rows), 9)
    assert [row[1] for row in best] == ["4", "0", "3", "1", "2"] and math.isnan(best[-1][2])
    mixed = [("f", "0", [0.9, None]), ("f", "1", [0.1, 0.1])]
    assert [row[1] for row in select._best(iter(mixed), 1)] == ["1"]


@pytest.mark.parametrize(
    ("labels", "said"),
    [(("blood",), "there is one label, 'blood'"), (("blood", " BLOOD"), "one and the same")],
)
def test_one_label_is_no_choice(tmp_path, tiny, capsys, labels, said):
    folder = write_files(tmp_path / "in", pictures(2))
    ask = [part for label in labels for part in ("--label", label)]
    assert run("classify", "--model", tiny, *ask, folder) == 2
    output = capsys.readouterr()
    assert said in output.err and "expected at least two" in output.err and not output.out


def test_equal_latents_keep_their_order(tmp_path, tiny, capsys):
    folder = write_files(tmp_path / "in", pictures(1).expand(5, -1, -1, -1))
    assert run("select", "--model", tiny, "--text", TEXTS[0], "-k", 3, folder) == 0
    files = [row["file"][-5:] for row in csv.DictReader(capsys.readouterr().out.splitlines())]
    assert files == ["0.npy", "1.npy", "2.npy"]


def test_a_table_without_pyarrow_says_how_to_get_it(tmp_path, tiny, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    folder = write_files(tmp_path / "in", pictures(1))
    for out in ("s.parquet", "parts"):
        assert run("embed", "--model", tiny, folder, "--out", tmp_path / out) == 2
        assert "latent-clip[bulk]" in capsys.readouterr().err
    assert run("embed", "--model", tiny, folder, "--out", tmp_path / "parts", "--format", "csv") == 0
