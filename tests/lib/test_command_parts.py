"""Folders of tables: a table per shard, by one worker, several or Ray; retried, resumed, never half."""

import json
import os
import re
import signal
import sys
import tarfile
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from command_world import (
    model,
    npy,
    pictures,
    read_csv,
    run,
    save_model,
    shell,
    start,
    write_files,
    write_shard,
    write_tar,
)

from lclip.bulk.engines import work_off
from lclip.bulk.parts import PartsFolder, Work, Worker, table_name
from lclip.bulk.processes import in_processes
from lclip.bulk.questions import Embed, ModelSource
from lclip.bulk.ray_actors import with_ray
from lclip.data.finding import find_shards
from lclip.data.shards import Shard


@pytest.fixture
def tiny(tmp_path):
    return save_model(tmp_path)


def shards(folder: Path, number=4, each=5):
    """Latents [number * each, 4, 8, 8] in that many shards."""
    z = pictures(number * each)
    for index, part in enumerate(z.split(each)):
        write_shard(folder / f"{index:03}.tar", part)
    return z


def embed(tiny, inputs, out, *more):
    return ("embed", "--model", tiny, inputs, "--out", out, "--format", "csv", *more)


def tables(folder: Path) -> dict[str, list[dict]]:
    return {path.name.partition("-")[0]: read_csv(path) for path in sorted(folder.glob("*.csv"))}


def without_numbers(found: dict[str, list[dict]]) -> dict[str, list[dict]]:
    return {name: [{**row, "embedding": ""} for row in rows] for name, rows in found.items()}


def embeddings(folder: Path) -> torch.Tensor:
    rows = [row for table in tables(folder).values() for row in table]
    return torch.tensor([json.loads(row["embedding"]) for row in rows])


def test_a_table_per_shard_holds_its_rows(tmp_path, tiny):
    z = shards(tmp_path / "in")
    assert run(*embed(tiny, tmp_path / "in", tmp_path / "out")) == 0
    assert {name: len(rows) for name, rows in tables(tmp_path / "out").items()} == {
        "000": 5, "001": 5, "002": 5, "003": 5,
    }  # fmt: skip
    torch.testing.assert_close(embeddings(tmp_path / "out"), model().encode_latents(z), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ["plain", "ray"])
def test_several_workers_write_the_same_tables(tmp_path, tiny, engine):
    if engine == "ray":
        pytest.importorskip("ray")
    shards(tmp_path / "in")
    (tmp_path / "in" / "broken.tar").write_bytes(b"x" * 600)
    assert run(*embed(tiny, tmp_path / "in", tmp_path / "one")) == 1
    more = ("--workers", 2, "--engine", engine)
    result = shell(*embed(tiny, tmp_path / "in", tmp_path / "two", *more))
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "broken.tar failed twice: " in result.stderr and "1 shards have none" in result.stderr
    one, two = (without_numbers(tables(tmp_path / name)) for name in ("one", "two"))
    assert one == two and len(one) == 4
    # Another number of threads adds up in another order.
    torch.testing.assert_close(embeddings(tmp_path / "one"), embeddings(tmp_path / "two"), rtol=0, atol=1e-6)
    again = shell(*embed(tiny, tmp_path / "in", tmp_path / "two", *more))
    assert again.returncode == 1 and "(20 of them in earlier runs)" in again.stderr


def test_parquet_tables_hold_vectors(tmp_path, tiny):
    pq = pytest.importorskip("pyarrow.parquet")
    z = shards(tmp_path / "in", number=2)
    write_tar(tmp_path / "in" / "002.tar", [("0.npy", b"broken"), ("1.npy", npy(z[0]))])
    assert run("embed", "--model", tiny, tmp_path / "in", "--out", tmp_path / "out") == 1
    files = sorted((tmp_path / "out").glob("*.parquet"))
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    broken = rows.pop(10)
    assert broken["embedding"] is None and "not a .npy" in broken["error"]
    expected = torch.cat([model().encode_latents(z), model().encode_latents(z[:1])])
    found = torch.tensor([row["embedding"] for row in rows])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_shard_that_mends_is_done_by_the_next_run(tmp_path, tiny, capsys):
    shards(tmp_path / "in", number=2)
    whole = (tmp_path / "in" / "001.tar").read_bytes()
    (tmp_path / "in" / "001.tar").write_bytes(b"")
    assert run(*embed(tiny, tmp_path / "in", tmp_path / "out")) == 1
    assert list(tables(tmp_path / "out")) == ["000"]
    (tmp_path / "in" / "001.tar").write_bytes(whole)
    assert run(*embed(tiny, tmp_path / "in", tmp_path / "out")) == 0
    assert list(tables(tmp_path / "out")) == ["000", "001"]
    assert "(5 of them in earlier runs)" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["header", "latents", "boundary"])
def test_a_shard_that_was_read_too_early_is_read_again_when_it_is_whole(tmp_path, tiny, place, capsys):
    """A shard that another program was still writing: samples 0 to 2 are whole, the fourth is not."""
    z = pictures(5)
    shard = write_shard(tmp_path / "in" / "a.tar", z)
    whole = shard.read_bytes()
    with tarfile.open(shard) as archive:
        fourth = archive.getmember("00003.npy")
    ends = {"header": fourth.offset + 100, "latents": fourth.offset_data + 100, "boundary": fourth.offset}
    shard.write_bytes(whole[: ends[place]])
    assert run(*embed(tiny, shard, tmp_path / "out")) == 1
    (early,) = tables(tmp_path / "out").values()
    assert [row["item"] for row in early if not row["error"]] == ["00000", "00001", "00002"]
    assert len(early) == 4 and re.search("damaged|truncated", early[3]["error"])
    assert "1 could not be read" in capsys.readouterr().err
    shard.write_bytes(whole)
    assert run(*embed(tiny, shard, tmp_path / "out")) == 0
    (late,) = tables(tmp_path / "out").values()
    assert [row["item"] for row in late] == [f"{index:05}" for index in range(5)]
    torch.testing.assert_close(embeddings(tmp_path / "out"), model().encode_latents(z), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal there")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_goes_on_with_the_shards_that_are_left(tmp_path, tiny, workers):
    z = shards(tmp_path / "in", number=30, each=10)
    more = ("--workers", workers, "--engine", "plain", "--batch", 1)
    log = tmp_path / "out" / "finished.jsonl"
    with start(*embed(tiny, tmp_path / "in", tmp_path / "out", *more)) as process:
        while not log.exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.kill()
        process.wait(600)
    with log.open("a") as file:
        file.write('[1]\n{"shard": "x"}\nnull\n{"shard": "half a li')
    assert len(log.read_text().splitlines()) < 33
    assert run(*embed(tiny, tmp_path / "in", tmp_path / "out")) == 0
    assert not list((tmp_path / "out").glob(".*.tmp"))
    torch.testing.assert_close(embeddings(tmp_path / "out"), model().encode_latents(z), rtol=1e-4, atol=1e-5)


def test_loose_files_are_divided_the_same_way_or_refused(tmp_path, tiny, capsys):
    files = write_files(tmp_path / "in", pictures(7))
    divided = list(find_shards([files], 3))
    assert [len(shard.files) for shard in divided] == [3, 3, 1]
    assert divided == list(find_shards([files], 3))
    assert len({shard.name for shard in divided}) == 3
    assert run(*embed(tiny, files, tmp_path / "out")) == 0
    (files / "new.npy").write_bytes(npy(pictures(1)[0]))
    assert run(*embed(tiny, files, tmp_path / "out")) == 2
    assert "files have come or gone" in capsys.readouterr().err
    assert run(*embed(tiny, files, tmp_path / "out", "--overwrite")) == 0
    (table,) = tables(tmp_path / "out").values()
    assert len(table) == 8


def test_a_folder_of_something_else_is_left_alone(tmp_path, tiny, capsys):
    shards(tmp_path / "in", number=1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.csv").write_text("1")
    assert run(*embed(tiny, tmp_path / "in", tmp_path / "out")) == 2
    assert run(*embed(tiny, tmp_path / "in", tmp_path / "out", "--overwrite")) == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious.csv"]
    assert run(*embed(tiny, tmp_path / "in", tmp_path / "good")) == 0
    other = ("score", "--model", tiny, "--text", "blood", "--format", "csv")
    assert run(*other, tmp_path / "in", "--out", tmp_path / "good") == 2
    assert "is of another run" in capsys.readouterr().err


def work(tmp_path, tiny):
    (tmp_path / "out").mkdir(exist_ok=True)
    return Work(Embed(), ModelSource(tiny), tmp_path / "out", ".csv", 32, Path.cwd())


def test_an_engine_tries_a_failed_shard_again_after_the_others(tmp_path, tiny):
    shards(tmp_path / "in", number=3)
    order = []

    class Unsteady(Worker):
        def __call__(self, shard):
            order.append(table_name(shard)[:3])
            if order == ["000"] or table_name(shard).startswith("001"):
                raise OSError("the disk is away")
            return super().__call__(shard)

    todo = list(find_shards([tmp_path / "in"]))
    chosen = work(tmp_path, tiny)
    unsteady = Unsteady(chosen, chosen.start(1).asker)
    outcomes = {
        table_name(outcome.shard)[:3]: outcome for outcome in work_off(todo, chosen, 1, "here", unsteady)
    }
    assert order == ["000", "001", "002", "000", "001"]
    assert outcomes["000"].tally.items == 5 and outcomes["001"].error == "the disk is away"
    assert len(outcomes) == 3


class Deadly(Embed):
    """A question whose answer kills the process that asks, for one kind of latents."""

    def answer(self, model):
        embeddings = super().answer(model)

        def answer(z, captions):
            if z.shape[-1] == 12:
                os.kill(os.getpid(), signal.SIGKILL)
            return embeddings(z, captions)

        return answer


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal there")
@pytest.mark.parametrize("engine", ["processes", "ray"])
def test_a_shard_that_kills_its_worker_takes_no_other_with_it(tmp_path, tiny, monkeypatch, engine):
    if engine == "ray":
        pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    shards(tmp_path / "in", number=5)
    write_shard(tmp_path / "in" / "deadly.tar", pictures(2, size=12))
    base = work(tmp_path, tiny)
    chosen = Work(Deadly(), base.source, base.folder, base.suffix, base.batch, base.here)
    todo = list(find_shards([tmp_path / "in"]))
    outcomes = {table_name(outcome.shard): outcome for outcome in work_off(todo, chosen, 2, engine)}
    assert len(outcomes) == 6
    failed = [name for name, outcome in outcomes.items() if outcome.tally is None]
    assert [name.partition("-")[0] for name in failed] == ["deadly"]
    assert "killed" in outcomes[failed[0]].error and len(list((tmp_path / "out").glob("*.csv"))) == 5


def test_workers_that_cannot_start_end_the_run(tmp_path, tiny):
    chosen = Work(Embed(), ModelSource(tmp_path / "nothing.pt"), tmp_path, ".csv", 1, Path.cwd())
    todo = [Shard(str(tmp_path / f"{number}.tar")) for number in range(100)]
    with pytest.raises(ChildProcessError, match="as soon as they start"):
        list(in_processes(todo, chosen, 2))
    if find_spec("ray"):
        with pytest.raises(ChildProcessError, match="as soon as they start.*nothing.pt"):
            list(with_ray(todo, chosen, 2))


def test_the_log_forgets_a_table_that_is_gone(tmp_path, tiny):
    shards(tmp_path / "in", number=1)
    assert run(*embed(tiny, tmp_path / "in", tmp_path / "out")) == 0
    (path,) = (tmp_path / "out").glob("*.csv")
    before = path.read_bytes()
    path.unlink()
    assert run(*embed(tiny, tmp_path / "in", tmp_path / "out")) == 0 and path.read_bytes() == before
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    folder = PartsFolder(tmp_path / "out", ".csv", settings)
    assert folder.tally().items == 5
