"""`python release/mutants.py`: are the tests sharp? Small faults, put into the code one at a time.

cosmic-ray makes the faults: `<` becomes `<=`, a number another number, `and` becomes `or`. A sample of those
of the wings asked for, drawn with a seed, is run by the tests that reach the changed line; a fault with which
they all pass survives. No file is changed: a forked process has the module as it would be. What the tests
reach is measured once and kept in build/mutants, as is every outcome, so that a run that was stopped goes on
where it was. Needs a system that forks, and the extra "mutants".
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import random
import re
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "build" / "mutants"
WINGS = {
    "latents": "latent_checks|spaces|size_rule|fitting|heatmap|noise_or|frames|odd_latents|counts|recorded",
    "safety": "safety|policy|text_doubts|noise_or_picture|command_safety|wording",
    "rewards": "reward|per_item|slider|taste|discriminant|broken_items|pick",
    "reno": "reno|descent|guidance|sampler|handed_out|per_item",
}
"""Wings, and what the names of the test files have that ask them; none of these takes minutes."""
BUDGET = 20.0
"""Seconds of tests for a fault, the quickest first."""

Outcome = Callable[[Any, list[str], float], str]
Reach = dict[str, dict[str, Any]]
"""tests: seconds by test; lines: by file and line the tests that run it."""


@dataclass(frozen=True)
class Mutant:
    """One fault: the occurrence'th change of its kind in a file."""

    file: str
    operator: str
    occurrence: int
    line: int
    column: int

    @property
    def name(self) -> str:
        return f"{self.file}:{self.line}:{self.column} {self.operator.split('/')[-1]} #{self.occurrence}"

    def source(self) -> str:
        """The file's text with the fault."""
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator

        mutated = mutate_code(
            (ROOT / self.file).read_text("utf-8"), get_operator(self.operator)(), self.occurrence
        )
        if mutated is None:
            raise ValueError(f"there is no fault {self.name}; the file has changed since")
        return mutated


def mutants_of(file: Path) -> Iterator[Mutant]:
    """All faults of a file but those in annotations, which nothing runs."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    text = file.read_text("utf-8")
    silent, tree = _annotations(text), get_ast(text)
    for name in sorted(operator_names()):
        operator = get_operator(name)
        if operator.arguments() or name.endswith("/NoOp"):
            continue
        places = (place for node in ast_nodes(tree) for place in operator().mutation_positions(node))
        for occurrence, ((line, column), _) in enumerate(places):
            if not any(start <= (line, column) < end for start, end in silent):
                yield Mutant(file.relative_to(ROOT).as_posix(), name, occurrence, line, column)


def _annotations(text: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations begin and end: they are texts, as every file says at its head."""
    found = []
    for node in ast.walk(ast.parse(text)):
        for each in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(each, ast.expr) and each.end_lineno is not None:
                end = (each.end_lineno, each.end_col_offset or 0)
                found.append(((each.lineno, each.col_offset), end))
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            found.append(((node.lineno, 0), (node.end_lineno or node.lineno, 1000)))
    return found


class Runner:
    """A plugin of pytest: in the place of the usual loop over tests, those of each fault, in a fork."""

    def __init__(self, options: argparse.Namespace, wing: str) -> None:
        self.options, self.wing = options, wing
        self.items: dict[str, Any] = {}

    def pytest_runtestloop(self, session: Any) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        path = KEPT / f"reach-{self.wing}.json"
        if not path.exists() or self.options.again:
            _in_fork(lambda: path.write_text(json.dumps(self.measured_reach()), "utf-8") * 0, 3600)
        report(self.options, self.wing, json.loads(path.read_text("utf-8")), self.outcome)
        return True

    def measured_reach(self) -> Reach:
        """Run every test once; note how long it takes, and which lines of the wings it runs."""
        import coverage

        meter = coverage.Coverage(data_file=None, include=[f"{ROOT}/lclip/{self.wing}/*"], messages=False)
        meter.start()
        seconds = {}
        for name in self.items:
            meter.switch_context(name)
            begun = time.perf_counter()
            if not self.failed([name]):  # one that fails by itself finds every fault
                seconds[name] = time.perf_counter() - begun
        meter.stop()
        data = meter.get_data()
        lines = {}
        for file in data.measured_files():
            by_line = data.contexts_by_lineno(file)
            kept = {str(line): sorted(set(tests) & seconds.keys()) for line, tests in by_line.items()}
            lines[Path(file).relative_to(ROOT).as_posix()] = kept
        return {"tests": seconds, "lines": lines}

    def failed(self, names: list[str]) -> bool:
        """Whether one of these tests fails; the first that does ends it."""
        from _pytest.runner import runtestprotocol

        for place, name in enumerate(names):
            after = self.items[names[place + 1]] if place + 1 < len(names) else None
            reports = runtestprotocol(self.items[name], log=False, nextitem=after)
            if any(each.failed for each in reports):
                return True
        return False

    def outcome(self, mutant: Mutant, tests: list[str], limit: float) -> str:
        """survived, killed, too slow, or no test, by these tests in a forked process."""

        def run() -> int:
            if as_mutated(mutant):
                return int(self.failed(tests))
            return _from_the_start(mutant, tests)

        code = _in_fork(run, limit) if tests else -2
        return {0: "survived", -1: "too slow", -2: "no test"}.get(code, "killed")


def as_mutated(mutant: Mutant) -> bool:
    """Put the fault into the module that is imported already; False where it is in none of its functions."""
    if not _in_a_function((ROOT / mutant.file).read_text("utf-8"), mutant.line):
        return False
    name = ".".join(Path(mutant.file).with_suffix("").parts)
    module = importlib.import_module(name)
    fresh = dict(__name__=name, __package__=module.__package__, __file__=module.__file__)
    exec(compile(mutant.source(), str(ROOT / mutant.file), "exec", dont_inherit=True), fresh)  # noqa: S102
    return any([_swapped(old, fresh[key]) for key, old in vars(module).items() if key in fresh])


def _in_a_function(text: str, line: int) -> bool:
    """Whether a line is in the body of a function, and so does not run at import."""
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    return any(each.body[0].lineno <= line <= (each.end_lineno or 0) for each in functions)


def _swapped(old: Any, new: Any) -> bool:
    """Give a function, or those of a class, the code and the defaults of another; whether any changed."""
    for inner in ("__func__", "fget", "func", "__wrapped__"):
        if hasattr(old, inner) and hasattr(new, inner) and not isinstance(old, type):
            return _swapped(getattr(old, inner), getattr(new, inner))
    if isinstance(old, type) and isinstance(new, type) and old is not new:
        members = vars(new)
        return any([_swapped(each, members[key]) for key, each in vars(old).items() if key in members])
    if not (isinstance(old, types.FunctionType) and isinstance(new, types.FunctionType)) or old is new:
        return False
    before = (old.__code__, repr(old.__defaults__), repr(old.__kwdefaults__))
    if before == (new.__code__, repr(new.__defaults__), repr(new.__kwdefaults__)):
        return False
    old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
    return True


def _from_the_start(mutant: Mutant, tests: list[str]) -> int:
    """Import everything anew, this module with the fault, and run the tests; for what runs at import."""
    import pytest

    name, source = ".".join(Path(mutant.file).with_suffix("").parts), mutant.source()

    class Loader(SourceFileLoader):
        def get_code(self, fullname: str) -> Any:
            return compile(source, self.path, "exec", dont_inherit=True)

    class Finder:
        @staticmethod
        def find_spec(wanted: str, path: Any = None, target: Any = None) -> Any:
            file = str(ROOT / mutant.file)
            return spec_from_file_location(name, file, loader=Loader(name, file)) if wanted == name else None

    ours = tuple(f"{ROOT / folder}{os.sep}" for folder in ("lclip", "tests"))
    for key, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(ours):
            del sys.modules[key]
    sys.meta_path.insert(0, Finder)
    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests])
    return 0 if code == 0 else 1


def _in_fork(run: Callable[[], int], limit: float) -> int:
    """What a function answers in a copy of this process; -1 where it takes longer than so many seconds."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with open(KEPT / "last-run.txt", "w") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            code = run()
        except BaseException:  # also what would end pytest: nothing of this child may go on as its parent
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    begun = time.monotonic()
    while time.monotonic() - begun < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return abs(os.waitstatus_to_exitcode(status))
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1


def tests_for(mutant: Mutant, reach: Reach, budget: float) -> list[str]:
    """The tests that run the changed line, the quickest first; of a line that runs at import, the file's.

    A file without functions, such as a table, runs at import alone: any test may look at what it holds.
    """
    lines = reach["lines"].get(mutant.file, {"": list(reach["tests"])})
    tests = lines.get(str(mutant.line)) or sorted({test for each in lines.values() for test in each})
    chosen, spent = [], 0.0
    for test in sorted(tests, key=reach["tests"].__getitem__):
        spent += reach["tests"][test]
        if chosen and spent > budget:
            break
        chosen.append(test)
    return chosen


def sample(wing: str, count: int, seed: int) -> tuple[list[Mutant], int]:
    """Faults drawn evenly from all of a wing's, and how many those are."""
    found = [mutant for file in sorted((ROOT / "lclip" / wing).glob("*.py")) for mutant in mutants_of(file)]
    return random.Random(f"{seed} {wing}").sample(found, min(count, len(found))), len(found)


def report(options: argparse.Namespace, wing: str, reach: Reach, outcome: Outcome) -> None:
    """Run what has not been run, and say what survived."""
    chosen, of = sample(wing, options.count, options.seed)
    results, known = KEPT / f"outcomes-{wing}.jsonl", {}
    if results.exists() and not options.again:
        known = {row["name"]: row["outcome"] for row in map(json.loads, results.open(encoding="utf-8"))}
    with results.open("w" if options.again else "a", encoding="utf-8") as file:
        for mutant in chosen:
            if mutant.name in known and not (options.survivors and known[mutant.name] == "survived"):
                continue
            tests = tests_for(mutant, reach, options.budget)
            expected = sum(reach["tests"][test] for test in tests)
            known[mutant.name] = outcome(mutant, tests, 60 + 20 * expected)
            row = {"name": mutant.name, "outcome": known[mutant.name], "tests": len(tests), **asdict(mutant)}
            file.write(json.dumps(row) + "\n")
            file.flush()
            sys.stdout.write(f"{known[mutant.name]:9} {mutant.name}\n")
    tally = [known[mutant.name] for mutant in chosen]
    counts = ", ".join(f"{tally.count(each)} {each}" for each in sorted(set(tally)))
    sys.stdout.write(f"{wing}: {len(chosen)} of {of} faults, seed {options.seed}: {counts}\n")


def test_files(named: str) -> list[str]:
    """The test files of the library whose names have this, a regular expression."""
    files = sorted((ROOT / "tests" / "lib").glob("test_*.py"))
    return [str(file) for file in files if re.search(named, file.name)]


def main() -> None:
    """Parse the command line, and let pytest collect each wing's tests."""
    import pytest

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100, help="faults to draw from each wing (default 100)")
    parser.add_argument("--seed", type=int, default=15, help="of the draw (default 15)")
    parser.add_argument("--wings", nargs="+", default=list(WINGS), choices=WINGS, help="folders of lclip")
    parser.add_argument("--again", action="store_true", help="measure anew what the tests reach, and run all")
    parser.add_argument("--survivors", action="store_true", help="run again those that survived before")
    parser.add_argument("--tests", help="names of test files, as a regular expression, for the wing's own")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds of tests for each fault")
    options = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    KEPT.mkdir(parents=True, exist_ok=True)
    quiet = ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist"]
    for wing in options.wings:
        child = os.fork()
        if child == 0:
            pytest.main([*quiet, *test_files(options.tests or WINGS[wing])], [Runner(options, wing)])
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
