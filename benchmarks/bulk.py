"""Bulk work over tar shards: its rate against the bare model, two workers against one, and its memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lclip import LatentCLIP
from lclip.bulk.asking import Asker
from lclip.bulk.engines import Outcome, work_off
from lclip.bulk.parts import Work, Worker
from lclip.bulk.questions import Embed, ModelSource, Question, Score
from lclip.checkpoints.checkpoint import save_checkpoint
from lclip.data.finding import find_shards
from lclip.data.reader import read_shard
from lclip.data.shards import Shard
from lclip.mini.train_clip import tokenizer
from lclip.statistics import bootstrap

from . import shapes
from .harness import Run, ratio, table, time_in_turns
from .probes import PEAK_KIB, STATUS, probe
from .tars import npy, write_samples

BATCH = 32  # the commands' own
TEXTS = ("a red star", "a blue ring", "a skull")
PEAK = f"""
import sys
import lclip.commands
code = lclip.commands.main(sys.argv[1:])
print({PEAK_KIB})
sys.exit(code)
"""


@dataclass(frozen=True)
class Bench:
    """A folder for models, shards and tables."""

    folder: Path

    @property
    def suffix(self) -> str:
        """Parquet, as the commands write by default, where it can be written."""
        return ".parquet" if find_spec("pyarrow") else ".csv"

    def model(self, layers: int, name: str) -> Path:
        """A Latent-CLIP of the shape of B/8, with that many blocks, random weights, and words for tokens."""
        words = tokenizer()
        base = shapes.with_layers(shapes.LATENT_CLIPS["B/8"], layers)
        config = replace(
            base, tokenizer="words", vocab_size=words.vocab_size, context_length=words.context_length
        )
        return save_checkpoint(LatentCLIP(config, tokenizer=words), self.folder / name, torch.float16)

    def shards(self, name: str, shards: int, each: int) -> list[Shard]:
        """Tar shards of random latents of SDXL's 512 px size, in half precision, with captions."""
        folder = self.folder / name
        folder.mkdir()
        for number in range(shards):
            write_shard(folder / f"{number:03}.tar", each, number)
        return list(find_shards([folder]))

    def work(self, question: Question, model: Path, name: str) -> Work:
        out = self.folder / name
        out.mkdir()
        return Work(question, ModelSource(model, "cpu"), out, self.suffix, BATCH, Path.cwd())


def write_shard(path: Path, number: int, seed: int) -> None:
    """A tar shard in WebDataset's layout: KEY.npy, [4, 64, 64] float16, and KEY.txt.

    Blocks of 2x2 equal cells, as noise is noted of every item.
    """
    rng = np.random.default_rng(seed)
    drawn = (6 * rng.standard_normal((4, 32, 32), np.float32) for _ in range(number))
    blocks = (coarse.repeat(2, 1).repeat(2, 2).astype(np.float16) for coarse in drawn)
    write_samples(path, ({"npy": npy(latents), "txt": b"a red star"} for latents in blocks))


def bulk(run: Run) -> str:
    """The rate of one process in turns with the bare model; workers; peak memory of the command."""
    with tempfile.TemporaryDirectory(prefix="latent-clip-") as folder:
        bench = Bench(Path(folder))
        model = bench.model(run.choose(12, 1), "model.safetensors")
        return "\n\n".join((_rates(run, bench, model), _workers(run, bench, model), _memory(run, bench)))


def _rates(run: Run, bench: Bench, path: Path) -> str:
    """One shard through the whole way, reading to table, in turns with the model on ready batches."""
    number = BATCH
    (shard,) = bench.shards("rates", 1, number)
    model = ModelSource(path, "cpu").load()
    latents = torch.stack([item.latents for item in read_shard(shard) if item.latents is not None])
    jobs = {"bare": lambda: _bare(model, latents)}
    for question in (Embed(), Score(TEXTS)):
        work = bench.work(question, path, f"{question.name} out")
        worker = Worker(work, Asker(question, model, BATCH))
        jobs[question.name] = lambda work=work, worker=worker: _finish([shard], work, worker)
    run.say(f"rates of {number} latents")
    seconds = time_in_turns(jobs, run.choose(5, 2))
    rows = []
    for name, title in (("embed", "embed"), ("score", f"score, {len(TEXTS)} texts")):
        share = ratio(seconds["bare"], seconds[name])
        rows.append((title, _rate(seconds[name], number), _rate(seconds["bare"], number), share.percent()))
    return (
        "Latents of SDXL's 512 px size ([4, 64, 64], float16, random) through a Latent-CLIP of the shape of "
        f"B/8 with random weights, float32, batches of {BATCH}, {torch.get_num_threads()} threads. The whole "
        f"way of a tar shard of {number} latents, from reading it to its finished {bench.suffix[1:]} table, "
        "against the bare forward pass of the same batches that are in memory already, in turns.\n\n"
        + table(("command", "latents/s", "bare forward, latents/s", "of bare"), rows)
    )


def _bare(model: LatentCLIP, latents: Tensor) -> None:
    with torch.inference_mode():
        for batch in latents.split(BATCH):
            model.encode_latents(batch)


def _finish(shards: list[Shard], work: Work, worker: Worker) -> None:
    for outcome in work_off(shards, work, 1, "here", worker):
        _check(outcome)


def _check(outcome: Outcome) -> None:
    if outcome.tally is None or outcome.tally.counts:
        raise RuntimeError(f"a shard of the benchmark went wrong: {outcome}")


def _rate(seconds: list[float], number: int) -> str:
    return bootstrap([number / value for value in seconds]).text(digits=1)


def _workers(run: Run, bench: Bench, path: Path) -> str:
    """One and two worker processes, one thread each, by each engine that is there."""
    each, shards, rounds = 8, run.choose(8, 4), run.choose(3, 1)
    inputs = bench.shards("workers", shards, each)
    engines = {"processes": "processes"} | ({"Ray Data": "ray"} if find_spec("ray") else {})
    found: dict[tuple[str, int], list[float]] = {}
    with _one_thread_each():
        for turn in range(rounds):
            for title, engine in engines.items():
                for workers in (1, 2):
                    run.say(f"{title}, {workers} workers")
                    work = bench.work(Embed(), path, f"{engine} {workers} {turn}")
                    rate = _steady_rate(inputs, each, work, workers, engine)
                    found.setdefault((title, workers), []).append(rate)
    rows: list[tuple[object, ...]] = []
    for title in engines:
        one, two = found[title, 1], found[title, 2]
        rows.append(
            (title, bootstrap(one).text(digits=1), bootstrap(two).text(digits=1), ratio(two, one).text())
        )
    if "Ray Data" not in engines:
        rows.append(("Ray Data", "not measured: Ray not installed", "", ""))
    return (
        f"embed by worker processes with one thread each, on {os.cpu_count()} cores: {shards} shards of "
        f"{each} latents, {rounds} rounds. The rate counts from the table that is finished when each worker "
        "has had time for one, so that starting Python and loading the model do not count.\n\n"
        + table(("engine", "one worker, latents/s", "two workers, latents/s", "two / one"), rows)
    )


def _steady_rate(shards: list[Shard], each: int, work: Work, workers: int, engine: str) -> float:
    """Latents a second by when the tables were finished: Ray hands outcomes over several at a time."""
    for outcome in work_off(shards, work, workers, engine):
        _check(outcome)
    times = sorted(path.stat().st_mtime for path in work.folder.glob(f"*{work.suffix}"))
    return each * (len(times) - workers) / (times[-1] - times[workers - 1])


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """What workers take their number of threads from."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _memory(run: Run, bench: Bench) -> str:
    """The command's own peak, for one shard of each size."""
    if not STATUS.exists():
        return f"Peak memory: not measured, as this system has no {STATUS}."
    model = bench.model(1, "one-block.safetensors")
    rows = []
    for number in (run.choose(300, 50), run.choose(3000, 200)):
        run.say(f"memory of {number} latents")
        (shard,) = bench.shards(f"memory {number}", 1, number)
        peaks = [_peak(bench, model, shard, f"peak {number} {turn}") for turn in range(run.choose(2, 1))]
        inside = number * 4 * 64 * 64 * 4 / 2**20
        rows.append((f"{number:,}", f"{inside:.0f} MiB", f"{max(peaks):.0f} MiB"))
    return (
        "Peak resident memory of `python -m lclip embed`, one tar shard as input, the larger of two runs. "
        "The model has one block, so that the input, not the model, would show; it is otherwise as above.\n\n"
        + table(("latents", "as float32", "peak memory"), rows)
    )


def _peak(bench: Bench, model: Path, shard: Shard, name: str) -> float:
    """MiB, of a process of its own."""
    arguments = ("--model", model, shard.files[0], "--quiet", "--out", bench.folder / name)
    printed = probe(PEAK, "embed", *arguments, "--format", bench.suffix[1:], "--device", "cpu")
    return int(printed.split()[-1]) / 1024
