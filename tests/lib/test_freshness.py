"""A section of the results that is older than the code it measures says so."""

import pytest

from benchmarks import freshness
from benchmarks.__main__ import SECTIONS
from benchmarks.harness import RESULTS, Report

CODE = 'def double(x):\n    """Twice."""\n    return 2 * x\n'


@pytest.fixture
def report(tmp_path, monkeypatch):
    """A results file with one section, which measures one file."""
    monkeypatch.setattr(freshness, "ROOT", tmp_path)
    monkeypatch.setattr(freshness, "MEASURED", {"speed": ("part",), "gain": ("other.py",)})
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "code.py").write_text(CODE)
    (tmp_path / "other.py").write_text(CODE)
    report = Report(tmp_path / "RESULTS.md")
    report.write("speed", "Speed", "fast", "a machine")
    report.write("gain", "Gain", "much", "a machine")
    return report


def mark(report):
    freshness._digest.cache_clear()
    report.mark()
    return report.path.read_text()


@pytest.fixture(autouse=True)
def _no_digest_outlives_its_test():
    freshness._digest.cache_clear()
    yield
    freshness._digest.cache_clear()


def test_a_fresh_section_says_nothing(report):
    assert "Older" not in mark(report)


def test_a_section_whose_code_changed_says_where_and_no_other_does(report):
    (report.path.parent / "part" / "code.py").write_text(CODE.replace("2 * x", "3 * x"))
    text = mark(report)
    assert text.count("*Older than what it measures: changed since in part.*\n\nfast") == 1
    assert text.count("Older") == 1
    assert mark(report) == text, "marking twice is marking once"


def test_new_files_and_weights_count(report):
    (report.path.parent / "part" / "net.safetensors").write_bytes(b"weights")
    assert "changed since in part" in mark(report)


def test_comments_docstrings_and_layout_do_not_count(report):
    (report.path.parent / "part" / "code.py").write_text(
        'def double(x):\n    """Two times."""\n    # plainly\n    return (2 *\n        x)\n'
    )
    assert "Older" not in mark(report)


def test_measuring_again_takes_the_mark_away(report):
    (report.path.parent / "part" / "code.py").write_text(CODE.replace("2", "3"))
    assert "Older" in mark(report)
    report.write("speed", "Speed", "faster", "a machine")
    assert "Older" not in report.path.read_text()


def test_a_section_without_a_record_is_older_than_any(report):
    text = freshness.RECORD.sub("", report.path.read_text())
    report.path.write_text(text)
    assert mark(report).count("*Older than any record of the code that it measures.*") == 2


def test_every_section_names_what_it_measures_and_all_of_that_is_there():
    assert set(SECTIONS) <= set(freshness.MEASURED)
    parts = {part for parts in freshness.MEASURED.values() for part in parts}
    assert not [part for part in parts if not (freshness.ROOT / part).exists()]


def test_the_published_results_are_marked():
    text = RESULTS.read_text(encoding="utf-8")
    assert freshness.marked(text) == text, "run: python -m benchmarks --mark"
