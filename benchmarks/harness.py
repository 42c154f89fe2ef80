"""What every section shares: intervals, interleaved timing, and sections of one results file."""

from __future__ import annotations

import datetime
import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from lclip.checkpoints.atomic import atomic_file
from lclip.statistics import Interval, bootstrap

from .freshness import marked, record
from .parts import Arrays, Parts

RESULTS = Path(__file__).with_name("RESULTS.md")
HEADING = """# Results
Written by `make bench` (`python -m benchmarks SECTION ...` for one section). Intervals are 95 %: Wilson for
shares, a bootstrap for means and ratios, over whole prompts where one prompt has several seeds. Times that
are compared were taken in turns in one run; compare their ratio, not seconds from different runs. A section
that is older than the code it measures says so (`python -m benchmarks --mark`, checked in the tests).
"""


class Skipped(Exception):
    """A section that cannot be measured here, and why."""


@dataclass(frozen=True)
class Run:
    """How the sections are run: `tiny` shrinks every count, to try the code and not to report."""

    device: str = "cpu"
    tiny: bool = False
    seed: int = 0
    parts: Parts | None = None

    def choose(self, full: int, tiny: int) -> int:
        """A count: `tiny` in a trial run, `full` otherwise."""
        return tiny if self.tiny else full

    def part(self, name: str, job: Callable[[], Arrays]) -> dict[str, np.ndarray]:
        """The arrays that a job gives; not done again by a run that goes on where another was stopped."""
        return dict(job()) if self.parts is None else self.parts.of(name, job)

    def say(self, text: str) -> None:
        """One line of progress."""
        print(f"    {text}", flush=True)


def ratio(slow: Sequence[float], fast: Sequence[float]) -> Interval:
    """How many times `fast` fits into `slow`: geometric mean of the per-round ratios."""
    logs = np.log(np.asarray(slow) / np.asarray(fast))
    value, low, high = (float(np.exp(x)) for x in bootstrap(logs).figures)
    return Interval(value, low, high, len(logs))


def clock(job: Callable[[], object], device: str = "cpu") -> float:
    """Seconds of one call, with the device's queue drained before and after."""
    _drain(device)
    start = time.perf_counter()
    job()
    _drain(device)
    return time.perf_counter() - start


def _drain(device: str) -> None:
    module = getattr(torch, torch.device(device).type, None)
    if module is not None and hasattr(module, "synchronize"):
        module.synchronize()


def time_in_turns(
    jobs: Mapping[str, Callable[[], object]], rounds: int, device: str = "cpu", at_least: float = 0.2
) -> dict[str, list[float]]:
    """Seconds per call of every job, one entry a round; the jobs take turns, so that load hits all alike.

    A short job is repeated within its turn until about `at_least` seconds have passed. Warm-up calls do not
    count: one for a long job, two for a short one.
    """
    repeats = {}
    for name, job in jobs.items():
        first = clock(job, device)
        long = first > 10 * at_least
        repeats[name] = 1 if long else max(1, round(at_least / max(clock(job, device), 1e-6)))
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(rounds):
        order = list(jobs) if turn % 2 == 0 else list(jobs)[::-1]
        for name in order:
            total = clock(lambda name=name: [jobs[name]() for _ in range(repeats[name])], device)
            seconds[name].append(total / repeats[name])
    return seconds


def duration(seconds: Sequence[float]) -> str:
    """Mean seconds with interval, in milliseconds below one second."""
    interval = bootstrap(seconds)
    if interval.value < 1.0:
        return interval.text(scale=1000, digits=1 if interval.value < 0.1 else 0, unit=" ms")
    return interval.text(digits=2, unit=" s")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def machine(device: str = "cpu") -> str:
    """One line: processor, cores, memory, torch, threads, and how busy the machine was."""
    cores = os.cpu_count() or 1
    parts = [_processor(), f"{cores} cores", f"{_memory_gib():.0f} GiB"]
    if torch.device(device).type != "cpu":
        module = getattr(torch, torch.device(device).type)
        parts.append(module.get_device_name(device))
    parts += [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    parts.append(f"{torch.get_num_threads()} threads")
    if hasattr(os, "getloadavg"):
        parts.append(f"load average {os.getloadavg()[0]:.1f} at the start")
    return ", ".join(parts)


def _processor() -> str:
    try:
        match = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        match = None
    return match.group(1).strip() if match else platform.processor() or platform.machine()


def _memory_gib() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError):
        return float("nan")


@dataclass
class Report:
    """A results file whose sections can be replaced one by one; unknown text around them is kept."""

    path: Path
    order: Sequence[str] = field(default_factory=tuple)

    def write(self, name: str, title: str, body: str, note: str) -> None:
        """Put a section in its place; other processes may write other sections at the same time."""
        with _alone(self.path):
            self._write(name, title, body, note)

    def _write(self, name: str, title: str, body: str, note: str) -> None:
        date = datetime.date.today().isoformat()
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        heading = f"## {title}\n{record(name)}*{date}; {note}*"
        section = f"{begin}\n{heading}\n\n{body.strip()}\n{end}\n"
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else HEADING
        if begin in text and end in text:
            before, rest = text.split(begin, 1)
            text = before + section + rest.split(end, 1)[1].lstrip("\n")
        else:
            text = self._insert(text, name, section)
        with atomic_file(self.path) as temporary:
            spaced = re.sub(r"\n*(<!-- begin )", r"\n\n\1", text).rstrip() + "\n"
            temporary.write_text(marked(spaced), encoding="utf-8")

    def mark(self) -> None:
        """Say of each section that is older than the code it measures, and of no other, that it is."""
        with _alone(self.path), atomic_file(self.path) as temporary:
            temporary.write_text(marked(self.path.read_text(encoding="utf-8")), encoding="utf-8")

    def _insert(self, text: str, name: str, section: str) -> str:
        later = self.order[self.order.index(name) + 1 :] if name in self.order else ()
        for other in later:
            marker = f"<!-- begin {other} -->"
            if marker in text:
                return text.replace(marker, section + marker, 1)
        return text.rstrip() + "\n\n" + section


@contextmanager
def _alone(path: Path, patience: float = 60.0) -> Iterator[None]:
    """Hold a lock beside a file. A lock older than `patience` seconds was left by a process that died."""
    lock = path.with_name(f".{path.name}.lock")
    while True:
        try:
            lock.touch(exist_ok=False)
            break
        except FileExistsError:
            with suppress(FileNotFoundError):
                if time.time() - lock.stat().st_mtime > patience:
                    lock.unlink(missing_ok=True)
            time.sleep(0.05)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
