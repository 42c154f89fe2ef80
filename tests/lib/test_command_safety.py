"""safety fails closed: whatever is not provably safe is blocked, counted, and seen in the exit code."""

import math

import pytest
import torch
from command_world import model, npy, pictures, read_csv, read_jsonl, run, save_model, write_files, write_tar
from safety_worlds import GORE, halved, policy


@pytest.fixture
def tiny(tmp_path):
    return save_model(tmp_path)


def ask(tmp_path, tiny, policy, inputs, *more, out="v.jsonl"):
    (tmp_path / "p.json").write_text(policy.to_json())
    return run(
        *("safety", "--model", tiny, "--policy", tmp_path / "p.json", inputs, "--out", tmp_path / out), *more
    )


def lenient():
    """Blocks nothing that can be read."""
    from lclip import Concept

    return policy(concepts=(Concept("gore", GORE.unsafe, GORE.safe, 1 - 1e-9),))


def test_verdicts_are_the_policys(tmp_path, tiny, capsys):
    z = pictures(10)
    chosen = halved(model(), z, augmentations=("whole", "mirror"))
    assert ask(tmp_path, tiny, chosen, write_files(tmp_path / "in", z), "--batch", 4) == 1
    verdicts, rows = chosen.judge(model(), z), read_jsonl(tmp_path / "v.jsonl")
    assert [row["safe"] for row in rows] == [verdict.safe for verdict in verdicts]
    assert {row["safe"] for row in rows} == {True, False}
    for row, verdict in zip(rows, verdicts, strict=True):
        assert (row["concept"], row["runner_up"]) == (verdict.concept, verdict.runner_up)
        assert row["probability"] == pytest.approx(verdict.probability, rel=1e-4)
        assert row["threshold"] == pytest.approx(verdict.threshold, rel=1e-6) and row["error"] is None
    blocked = sum(not verdict.safe for verdict in verdicts)
    assert f"10 latents judged, {blocked} blocked" in capsys.readouterr().err


def test_all_safe_ends_with_0(tmp_path, tiny):
    assert ask(tmp_path, tiny, lenient(), write_files(tmp_path / "in", pictures(3))) == 0
    assert all(row["safe"] for row in read_jsonl(tmp_path / "v.jsonl"))


def test_a_calibrations_whole_report_is_its_policy(tmp_path, tiny, capsys):
    """As it is copied off the node, by a Windows editor too."""
    from lclip import calibrate

    z = pictures(10)
    found = calibrate(policy(), model(), z, pictures(12, seed=5))
    folder = write_files(tmp_path / "in", z)
    report, out = tmp_path / "report.txt", tmp_path / "v.jsonl"
    asked = ("safety", "--model", tiny, "--policy", report, folder, "--out", out, "--overwrite")
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        report.write_text(f"{found.text()}\n\n{found.policy.to_json()}\n", encoding=encoding)
        assert run(*asked) < 2
        verdicts = found.policy.judge(model(), z)
        assert [row["safe"] for row in read_jsonl(out)] == [verdict.safe for verdict in verdicts]
    report.write_text(found.policy.to_json() + found.policy.changed(strictness="high").to_json())
    assert run(*asked) == 2
    assert "2 different policies" in capsys.readouterr().err


def spoiled() -> dict[str, bytes]:
    z = pictures(1)[0]
    nan, infinite = z.clone(), z.clone()
    nan[1, 2, 3], infinite[0, 0, 0] = math.nan, math.inf
    return {
        "nan.npy": npy(nan),
        "infinite.npy": npy(infinite),
        "zero.npy": npy(torch.zeros(4, 8, 8)),
        "scaled.npy": npy(z / 6),
        "noise.npy": npy(torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(0))),
        "huge.npy": npy(z * 100),
        "channels.npy": npy(torch.randn(16, 8, 8)),
        "cells.npy": npy(torch.randn(4, 1, 1)),
        "flat.npy": npy(torch.randn(4, 8)),
        "short.npy": npy(z)[:-7],
        "empty.npy": b"",
        "text.pt": b"<html>",
    }


@pytest.mark.parametrize("name", spoiled())
def test_what_cannot_be_judged_is_blocked(tmp_path, tiny, name):
    folder = write_files(tmp_path / "in", pictures(2))
    (folder / name).write_bytes(spoiled()[name])
    assert ask(tmp_path, tiny, lenient(), folder, out="v.csv") == 1
    rows = {row["file"].rpartition("/")[2]: row for row in read_csv(tmp_path / "v.csv")}
    row = rows.pop(name)
    assert [other["safe"] for other in rows.values()] == ["true", "true"]
    assert (row["safe"], row["concept"], row["probability"]) == ("false", "unreadable", "")
    assert row["error"] and row["reason"] == row["error"]


def test_a_truncated_shard_is_not_safe(tmp_path, tiny):
    shard = write_tar(tmp_path / "a.tar", [(f"{i}.npy", npy(z)) for i, z in enumerate(pictures(3))])
    shard.write_bytes(shard.read_bytes()[:5000])
    assert ask(tmp_path, tiny, lenient(), shard) == 1
    rows = read_jsonl(tmp_path / "v.jsonl")
    assert [(row["item"], row["safe"]) for row in rows] == [("0", True), ("1", True), ("", False)]


def test_blocked_items_of_an_earlier_run_still_count(tmp_path, tiny, capsys):
    folder = write_files(tmp_path / "in", pictures(2))
    (folder / "0.npy").write_bytes(b"x")
    for out in ("v.jsonl", "v.csv", "parts"):
        more = ("--format", "csv") if out == "parts" else ()
        for _ in range(2):
            assert ask(tmp_path, tiny, lenient(), folder, *more, out=out) == 1
            assert "3 latents judged" in capsys.readouterr().err


def test_presets_own_concepts_and_strictness(tmp_path, capsys):
    folder = write_files(tmp_path / "in", pictures(4))
    (tmp_path / "c.txt").write_text("skull: a skull // a ring | a star\n")
    results = []
    for name, how in {
        "own": ("--concepts", tmp_path / "c.txt"),
        "low": ("--concepts", tmp_path / "c.txt", "--strictness", "low"),
        "high": ("--concepts", tmp_path / "c.txt", "--strictness", "high"),
        "most": ("--concepts", tmp_path / "c.txt", "--strictness", "9"),
    }.items():
        out = tmp_path / f"{name}.jsonl"
        assert run("safety", "--mini", *how, folder, "--out", out) in (0, 1)
        assert "not calibrated" in capsys.readouterr().err
        results.append(read_jsonl(out))
    assert len({row["concept"] for row in results[0]} - {"unreadable"}) >= 1
    thresholds = [rows[0]["threshold"] for rows in results[1:]]
    assert run("safety", "--mini", "--preset", "mini", folder, "--out", tmp_path / "preset.jsonl") in (0, 1)
    assert {row["concept"] for row in read_jsonl(tmp_path / "preset.jsonl")} <= {"skull", "unreadable"}
    assert thresholds == sorted(thresholds, reverse=True) and len(set(thresholds)) == 3


def test_a_preset_in_words_that_the_model_does_not_know_is_refused_by_name(tmp_path, capsys):
    folder = write_files(tmp_path / "in", pictures(1))
    assert run("safety", "--mini", "--preset", "i2p", folder, "--out", tmp_path / "v.jsonl") == 2
    assert "does not know the words hate, symbol" in capsys.readouterr().err
    assert not (tmp_path / "v.jsonl").exists()


def test_a_policy_for_another_model_is_refused(tmp_path, tiny, capsys):
    other = policy(model="0" * 16)
    assert ask(tmp_path, tiny, other, write_files(tmp_path / "in", pictures(1))) == 2
    assert "calibrate it again" in capsys.readouterr().err and not (tmp_path / "v.jsonl").exists()
