"""`make mutants`: faults in a copy of a module, found by the tests that run the changed line."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def mutants():
    spec = importlib.util.spec_from_file_location("release_mutants", ROOT / "release" / "mutants.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def fault(mutants, line, file="lclip/reno/x.py"):
    return mutants.Mutant(file, "core/NumberReplacer", 0, line, 0)


def test_annotations_are_no_place_for_faults(mutants):
    text = "def f(a: int | None = 3) -> int | str:\n    b: int | str = a\n    return b\n"
    places = mutants._annotations(text)
    inside = [(1, 9), (1, 28), (2, 7)]
    outside = [(1, 22), (2, 19), (3, 4)]
    for place in inside:
        assert any(start <= place < end for start, end in places), place
    for place in outside:
        assert not any(start <= place < end for start, end in places), place


def test_the_quickest_tests_of_the_line_are_asked_within_the_budget(mutants):
    seconds = {"slow": 9.0, "quick": 0.1, "middle": 1.0, "elsewhere": 0.0}
    lines = {"lclip/reno/x.py": {"3": ["slow", "middle", "quick"], "1": ["elsewhere"], "9": []}}
    reach = {"tests": seconds, "lines": lines}
    assert mutants.tests_for(fault(mutants, 3), reach, 100) == ["quick", "middle", "slow"]
    assert mutants.tests_for(fault(mutants, 3), reach, 2) == ["quick", "middle"]
    assert mutants.tests_for(fault(mutants, 3), reach, 0.01) == ["quick"], "at least one"
    everything = ["elsewhere", "quick", "middle", "slow"]
    assert mutants.tests_for(fault(mutants, 9), reach, 100) == everything, "what runs at import"
    lines["lclip/reno/y.py"] = {"9": []}
    assert mutants.tests_for(fault(mutants, 3, "lclip/reno/y.py"), reach, 100) == []
    table = fault(mutants, 3, "lclip/reno/table.py")  # has no function, so that nothing of it was measured
    assert mutants.tests_for(table, reach, 100) == ["elsewhere", "quick", "middle", "slow"]


class Old:
    limit = 3

    def plain(self):
        return 1

    @property
    def asked(self):
        return 1

    @staticmethod
    def still():
        return 1

    def given(self, value=1):
        return value


class New:
    limit = 4

    def plain(self):
        return 2

    @property
    def asked(self):
        return 2

    @staticmethod
    def still():
        return 2

    def given(self, value=2):
        return value


def test_a_fault_reaches_whoever_holds_the_function_already(mutants):
    held, old = Old.plain, Old()
    assert mutants._swapped(Old, New)
    assert (held(old), old.plain(), old.asked, Old.still(), old.given()) == (2, 2, 2, 2, 2)
    assert not mutants._swapped(Old, New), "nothing is left to change"
    assert Old.limit == 3  # what runs at import is for a fresh import


def test_what_runs_at_import_is_told_from_what_a_function_does(mutants):
    text = "import math\n@property\ndef f(\n    a=1,\n):\n    b = 2\n    return b\nC = 3\n"
    assert [line for line in range(1, 9) if mutants._in_a_function(text, line)] == [6, 7]


def test_every_wing_has_tests(mutants):
    for wing, named in mutants.WINGS.items():
        assert (ROOT / "lclip" / wing).is_dir()
        assert mutants.test_files(named), named


def test_faults_are_made_and_drawn_evenly(mutants):
    pytest.importorskip("cosmic_ray")
    chosen, of = mutants.sample("reno", 5, seed=1)
    assert len(chosen) == 5 < of and chosen == mutants.sample("reno", 5, seed=1)[0]
    for each in chosen:
        assert each.source() != (ROOT / each.file).read_text("utf-8")
