"""Where results are read and written: known by any path, one writer at a time, refused before the work."""

import csv
import os
import subprocess
import sys
import time

import pytest
import torch
from command_world import pictures, read_csv, run, save_model, shell, start, write_files, write_shard

import lclip
from lclip.checkpoints.atomic import atomic_file
from lclip.checkpoints.claims import claimed, lock_of
from lclip.checkpoints.targets import check_folder, check_writable, name_fault, plain_name, written_somewhere
from lclip.data.files import read_latents, write_latents

TEXT = ("--text", "blood")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits as Linux has them")


def bound_by_modes():
    """Called in a process before its program begins: root, too, may write only where the modes say."""
    import ctypes

    if os.geteuid() == 0 and ctypes.CDLL(None, use_errno=True).prctl(
        PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0
    ):
        raise OSError(ctypes.get_errno(), "the right of root to write everywhere could not be dropped")


PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1  # linux/prctl.h, linux/capability.h


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder with latents and a shard, from two folders on: work/ and work/deep/."""
    tiny = save_model(tmp_path)
    work = tmp_path / "work"
    write_files(work / "in", pictures(5))
    write_shard(work / "in" / "shard.tar", pictures(4, seed=2))
    (work / "deep").mkdir()
    (work / "link").symlink_to(work / "in", target_is_directory=True)
    monkeypatch.chdir(work)
    return tiny, work


def ways(work):
    """(working directory, how the inputs are called from there)"""
    return (
        (work, "in"),
        (work, work / "in"),
        (work / "deep", "../in"),
        (work, "link"),
        (work / "deep", work / "link"),
    )


@pytest.mark.parametrize("first", range(5))
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_table_holds_a_row_once_by_whatever_path(world, monkeypatch, first, suffix):
    tiny, work = world
    out = work / f"table{suffix}"
    order = ways(work)[first:] + ways(work)[:first]
    lengths = set()
    for folder, name in order:
        monkeypatch.chdir(folder)
        assert run("score", "--model", tiny, *TEXT, name, "--out", out, "--quiet") == 0
        lengths.add(len(out.read_text().splitlines()))
    assert lengths == {9 + (suffix == ".csv")}


def test_rows_from_another_folder_say_where_their_files_are(world, monkeypatch):
    tiny, work = world
    assert run("score", "--model", tiny, *TEXT, "in/00000.npy", "--out", "t.csv", "--quiet") == 0
    monkeypatch.chdir(work / "deep")
    assert run("score", "--model", tiny, *TEXT, "../in", "--out", "../t.csv", "--quiet") == 0
    rows = read_csv(work / "t.csv")
    assert len(rows) == 9 and rows[0]["file"] == "in/00000.npy"
    assert all((work / row["file"]).exists() for row in rows)


@pytest.mark.parametrize("first", range(5))
def test_a_folder_holds_a_table_for_each_shard_once(world, monkeypatch, first):
    tiny, work = world
    for folder, name in ways(work)[first:] + ways(work)[:first]:
        monkeypatch.chdir(folder)
        assert (
            run("score", "--model", tiny, *TEXT, name, "--out", work / "out", "--format", "csv", "--quiet")
            == 0
        )
        tables = list((work / "out").glob("*.csv"))
        assert len(tables) == 2 and sum(len(read_csv(path)) for path in tables) == 9


@pytest.mark.parametrize("out", ["t.csv", "out"])
def test_a_project_that_was_moved_as_a_whole_goes_on(world, monkeypatch, tmp_path, out):
    tiny, work = world
    ask = ("score", "--model", tiny, *TEXT, "in", "--out", out, "--quiet")
    assert run(*ask) == 0
    monkeypatch.chdir(tmp_path)
    (work / "link").unlink()
    work.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    before = sorted((path, path.stat().st_size) for path in (tmp_path / "moved").rglob("*"))
    assert run(*ask) == 0
    assert before == sorted((path, path.stat().st_size) for path in (tmp_path / "moved").rglob("*"))


@pytest.mark.parametrize("out", ["t.csv", "t.parquet", "out"])
def test_two_runs_at_once_are_refused_by_name_and_leave_nothing_behind(world, out, capsys):
    tiny, work = world
    ask = ("score", "--model", tiny, *TEXT, "in", "--out", out, "--quiet")
    if out == "out":
        (work / out).mkdir()
    lock = lock_of(work / out)
    holder = subprocess.Popen(
        [sys.executable, "-c", f"""
import sys; from pathlib import Path; sys.path.insert(0, {str(lclip.__path__[0])!r} + "/..")
from lclip.checkpoints.atomic import atomic_file
from lclip.checkpoints.claims import claimed
with claimed(Path("x"), Path({str(lock)!r})): print("held", flush=True); sys.stdin.read()"""],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    assert run(*ask) == 2
    assert "another run is writing to" in capsys.readouterr().err
    holder.kill()  # without a chance to tidy up
    holder.wait(60)
    assert lock.exists() and run(*ask) == 0 and not lock.exists()


def test_a_claim_ends_with_its_block(tmp_path):
    for _ in range(2):
        with claimed(tmp_path / "x", tmp_path / "lock"):
            assert (tmp_path / "lock").exists()
        assert not (tmp_path / "lock").exists()


def test_two_commands_started_together_give_no_double_rows(world):
    tiny, work = world
    write_files(work / "many", pictures(300, seed=3))
    ask = (
        "score",
        "--model",
        tiny,
        *TEXT,
        work / "many",
        "--out",
        work / "both.csv",
        "--batch",
        1,
        "--quiet",
    )
    both = [start(*ask, cwd=work) for _ in range(2)]
    codes = sorted(process.wait(600) for process in both)
    for process in both:
        process.communicate()
    rows = read_csv(work / "both.csv")
    assert 0 in codes and set(codes) <= {0, 2}
    assert len(rows) == 300 and len({row["file"] for row in rows}) == 300


def shown(folder):
    """Its files in order, without hidden ones."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def selected(*arguments):
    return run("select", *TEXT, "--quiet", *arguments)


def test_a_selection_is_never_mixed_with_an_older_one(world, capsys):
    tiny, work = world
    ask = ("--model", tiny, "in", "--save-to", "best")
    assert selected("-k", 4, *ask) == 0
    assert selected("-k", 2, *ask) == 2
    assert "--overwrite" in capsys.readouterr().err and len(shown(work / "best")) == 4
    for mine in ("mine.txt", "2024_trip.latent"):
        (work / "best" / mine).write_text("kept")
    assert selected("-k", 2, *ask, "--overwrite") == 0
    assert [path.name[:4] for path in shown(work / "best")] == ["0001", "0002", "2024", "mine"]
    (work / ".best.selected").write_text("../outside.txt\nmine.txt\n")
    (work / "outside.txt").write_text("kept")
    assert selected("-k", 1, *ask, "--overwrite") == 0
    assert (work / "outside.txt").is_file()


def test_a_selection_does_not_rank_its_own_copies(world, capsys):
    tiny, work = world
    ask = ("--model", tiny, "-k", 3, "in", "--save-to", "in/best")
    assert selected(*ask) == 0
    first = capsys.readouterr().out
    assert selected(*ask, "--overwrite") == 0
    assert capsys.readouterr().out == first
    saved = shown(work / "in" / "best")
    rows = list(csv.DictReader(first.splitlines()))
    assert len(saved) == len(rows) == 3
    assert torch.isfinite(torch.cat([read_latents(path) for path in saved])).all()
    assert selected("--model", tiny, "in", "--save-to", ".", "--overwrite") == 2  # holds its own input
    assert "where the input is read from" in capsys.readouterr().err
    for source in (saved[0], "in/best/*.latent"):  # to choose again among the chosen must not remove them
        assert selected("--model", tiny, source, "--save-to", "in/best", "--overwrite") == 2
        assert "where the input is read from" in capsys.readouterr().err
    assert shown(work / "in" / "best") == saved


def test_of_a_key_that_a_tar_holds_twice_no_other_latent_is_saved(world, capsys):
    tiny, work = world
    from command_world import npy, write_tar

    pairs = zip("0102", pictures(4, seed=7), strict=True)
    write_tar(work / "twice.tar", [(f"{key}.npy", npy(z)) for key, z in pairs])
    assert selected("--model", tiny, "-k", 4, "twice.tar", "--save-to", "best") == 1
    assert "2 latents written" in (err := capsys.readouterr().err) and "of 0 there are two" in err
    assert sorted(path.stem[-2:] for path in (work / "best").iterdir()) == ["_1", "_2"]


def test_odd_keys_become_files_that_every_system_takes(world, capsys):
    tiny, work = world
    from command_world import npy, write_tar

    names = ["a:b", "what?" * 60, "con", "end", "x|y<z>"]
    members = [(f"{name}.npy", npy(z)) for name, z in zip(names, pictures(5, seed=7), strict=True)]
    write_tar(work / "odd.tar", members)
    assert selected("--model", tiny, "-k", 5, "odd.tar", "--save-to", "best") == 0
    saved = [path.name for path in (work / "best").iterdir()]
    assert len(saved) == 5 and not [name for name in saved if name_fault(name)]


LONG = "n" * 236 + ".csv"


def outputs(tiny, work, target):
    """Every command that writes, to a target in a folder, which must be refused before anything is loaded."""
    weights = target.with_suffix(".safetensors")
    return (
        ("score", "--model", tiny, *TEXT, "in", "--out", target),
        ("embed", "--model", tiny, "in", "--out", target.with_suffix(".parquet")),
        (
            "classify",
            "--model",
            tiny,
            "--label",
            "blood",
            "--label",
            "arm",
            "in",
            "--out",
            target.with_suffix(""),
        ),
        ("select", "--model", tiny, *TEXT, "in", "--scores", target),
        ("select", "--model", tiny, *TEXT, "in", "--save-to", target.with_suffix("")),
        ("convert", tiny, weights),
        ("adapter", "--mini", "--scenes", 4, "--steps", 1, "--out", weights),
        ("reno", "--prompt", "a red star", "--iterations", 1, "--out", target.with_suffix("")),
        ("demo", "--out", target.with_suffix("")),
        ("train", "--data", "in", "--steps", 1, "--out", target.with_suffix("")),
        ("safety", "--mini", "--preset", "mini", "in", "--out", target),
        ("explore", "--mini", "--out", target),
        ("evaluate", "imagenet", "--model", tiny, "in", "--out", target.with_suffix("")),
    )


@linux
@pytest.mark.parametrize("number", range(10))
def test_a_name_that_is_too_long_is_one_line_before_the_work(world, number):
    tiny, work = world
    arguments = outputs(tiny, work, work / ("n" * 300 + ".csv"))[number]
    began = time.monotonic()
    done = shell(*arguments, cwd=work)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and last.startswith(f"lclip {arguments[0]}: "), done.stderr
    assert "cannot be written: File name too long" in last, (last, time.monotonic() - began)
    assert "another name" in last and "Traceback" not in done.stderr
    assert not done.stdout


def test_a_name_of_240_letters_is_written(world):
    tiny, work = world
    assert run("score", "--model", tiny, *TEXT, "in", "--out", LONG, "--quiet") == 0
    assert len(read_csv(work / LONG)) == 9
    assert run("convert", tiny, "m" * 228 + ".safetensors") == 0


@linux
@pytest.mark.parametrize("number", range(10))
def test_a_folder_that_is_read_only_is_one_line_before_the_work(world, number):
    tiny, work = world
    (work / "locked").mkdir(mode=0o500)
    arguments = outputs(tiny, work, work / "locked" / "t.csv")[number]
    done = shell(*arguments, cwd=work, preexec_fn=bound_by_modes)
    assert done.returncode == 2, done.stderr
    assert "cannot be written: Permission denied" in done.stderr.splitlines()[-1]
    assert not list((work / "locked").iterdir())


@linux
@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 5, 7])
def test_a_disk_without_room_is_one_line(world, number):
    """A limit on the size of files stands for the disk's: the system says no in the same way."""
    tiny, work = world
    arguments = outputs(tiny, work, work / "t.csv")[number]
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); "
        "from lclip.commands import main; sys.exit(main(sys.argv[1:]))"
    )
    environment = {**os.environ, "PYTHONPATH": f"{lclip.__path__[0]}/..", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=work, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and "cannot be written: File too large" in last, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "fault"),
    [("a:b.csv", "':'"), ("what?", r"'\?'"), ("CON", "device"), ("lpt1.csv", "device"), ("end.", "drops"),
     ("end ", "drops"), ("...", "letters"), ("é" * 200, "400 bytes"), ("a\x01", "x01")],
)  # fmt: skip
def test_names_that_not_every_system_takes(name, fault):
    import re

    assert re.search(fault, name_fault(name) or "")
    mended = plain_name(name, ".x")
    assert name_fault(mended) is None and mended.endswith(".x")


FORBIDDEN = ("CON", "a:b", "a\tb", "lpt1", "what?", "end. ")


@pytest.mark.parametrize("name", FORBIDDEN)
def test_no_system_writes_a_name_that_another_cannot_have(tmp_path, name):
    """Folders are shared: what Linux writes as `a:b` Windows cannot open, nor copy."""
    stem = f"{name}.safetensors" if name != "end. " else name
    for check in (check_writable, check_folder):
        with pytest.raises(ValueError, match="cannot be written: .*Choose another name"):
            check(tmp_path / stem)
    with pytest.raises(ValueError, match="Choose another name"):
        check_folder(tmp_path / name / "inner", ("x",))
    with pytest.raises(ValueError, match="Choose another name"), atomic_file(tmp_path / stem):
        pass
    assert not list(tmp_path.iterdir())


@linux
def test_a_folder_that_is_there_may_be_called_anything(tmp_path):
    (tmp_path / "2026-01-01 12:30").mkdir()
    assert check_folder(tmp_path / "2026-01-01 12:30" / "new", ("x",)).is_dir()
    assert check_folder(tmp_path / "new" / ".." / "other").is_dir()


@linux
@pytest.mark.parametrize("number", range(13))
def test_a_forbidden_name_is_one_line_before_the_work(world, number, capsys):
    tiny, work = world
    absent = work / "absent.safetensors"  # with a model that is not there, what comes first is told first
    for name in ("a:b", "CON", "a\tb"):
        arguments = outputs(absent, work, work / f"{name}.csv")[number]
        assert run(*arguments) == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert "cannot be written: Windows" in last and last.endswith("Choose another name"), last
    assert sorted(path.name for path in work.iterdir()) == ["deep", "in", "link"]


def test_every_library_function_that_writes_a_file_asks_the_same(world, tmp_path):
    tiny, _ = world
    model = lclip.load(tiny)
    taste = lclip.Taste(torch.ones(model.config.embed_dim), 0.0)
    writers = (
        lambda path: lclip.convert(tiny, path.with_suffix(".safetensors")),
        lambda path: lclip.convert(tiny, path, to="transformers"),
        lambda path: lclip.save_taste(taste, path.with_suffix(".safetensors")),
        lambda path: write_latents(torch.zeros(1, 4, 8, 8), path.with_suffix(".latent")),
    )
    for write in writers:
        with pytest.raises(ValueError, match="cannot be written: Windows forbids ':'"):
            write(tmp_path / "a:b")


@linux
def test_an_older_table_by_a_forbidden_name_is_not_lost(world, capsys):
    tiny, work = world
    (work / "a:b.csv").write_text("mine")
    assert run("score", "--model", tiny, *TEXT, "in", "--out", work / "a:b.csv", "--overwrite") == 2
    assert (work / "a:b.csv").read_text() == "mine"


def test_names_that_every_system_takes_are_left_alone():
    for name in ("mine", "a.b.c", "console", "com10", "日本語", "x" * 200):
        assert name_fault(name) is None and plain_name(name, ".x") == f"{name}.x"
    first, second = plain_name("x" * 300 + "1", ".x"), plain_name("x" * 300 + "2", ".x")
    assert first != second and len(first) <= 202


def test_a_place_that_turned_bad_loses_no_result(tmp_path, monkeypatch, caplog):
    def write(path):
        path.write_text("weights")
        return path

    (tmp_path / "other").mkdir()
    gone = tmp_path / "gone" / "mine.safetensors"
    _, place = written_somewhere(write, gone, [tmp_path / "missing", tmp_path / "other"])
    assert place == tmp_path / "other" / "mine.safetensors" and place.read_text() == "weights"
    assert str(gone) in caplog.text and str(place) in caplog.text
    _, second = written_somewhere(write, gone, [tmp_path / "other"])
    assert second != place and second.parent == place.parent
    _, plain = written_somewhere(write, tmp_path / "x.safetensors")
    assert plain == tmp_path / "x.safetensors"


def test_a_trained_adapter_is_written_elsewhere_rather_than_lost(world, tmp_path, monkeypatch, capsys):
    """The folder is taken away while it trains."""
    from lclip.adapters.training import AdapterTraining

    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    target = tmp_path / "models"
    target.mkdir()
    result = AdapterTraining.result

    def late(training):
        target.rmdir()
        return result(training)

    monkeypatch.setattr(AdapterTraining, "result", late)
    out = target / "twin.safetensors"
    assert run("adapter", "--mini", "--scenes", 40, "--steps", 2, "--out", out, "--quiet") == 0
    kept = tmp_path / "home" / "twin.safetensors"
    assert f"written to {kept}" in capsys.readouterr().out and lclip.load_adapter(kept)


def test_a_folder_in_the_place_of_a_file_and_the_other_way_round(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        check_writable(tmp_path)
    (tmp_path / "x").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        check_folder(tmp_path / "x")
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]
