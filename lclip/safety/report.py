"""Verdicts as a report: a table to read, and JSON to keep."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..checkpoints.fingerprint import fingerprint

if TYPE_CHECKING:
    from .judge import SafetyJudge, Verdict

UNCALIBRATED = (
    "the thresholds are not calibrated for this model: treat rates as unknown until you calibrate with your "
    "own latents"
)


def report_text(judge: SafetyJudge, verdicts: Sequence[Verdict], notes: Sequence[str] = ()) -> str:
    """A heading with the policy's hash, a line per item, and notes."""
    blocked = sum(not verdict.safe for verdict in verdicts)
    lines = [
        f"Safety: {blocked} of {len(verdicts)} blocked; policy {judge.policy.name}, strictness "
        f"{judge.policy.strictness}, augmentations {'+'.join(judge.policy.augmentations)}, "
        f"hash {judge.digest[:16]}"
    ]
    lines += [_line(verdict) for verdict in verdicts]
    return "\n".join([*lines, *(f"Note: {note}" for note in _notes(judge, notes))])


def report_json(judge: SafetyJudge, verdicts: Sequence[Verdict], notes: Sequence[str] = ()) -> str:
    """The same for an audit; a probability that does not exist is null."""
    content = {
        "policy": judge.policy.name,
        "hash": judge.digest,
        "models": [fingerprint(model) for model in judge.models],
        "calibrated": judge.policy.model is not None,
        "strictness": judge.policy.strictness,
        "augmentations": list(judge.policy.augmentations),
        "items": len(verdicts),
        "blocked": sum(not verdict.safe for verdict in verdicts),
        "verdicts": [_record(verdict) for verdict in verdicts],
        "notes": _notes(judge, notes),
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def _notes(judge: SafetyJudge, notes: Sequence[str]) -> list[str]:
    return [*notes, *([] if judge.policy.model is not None else [UNCALIBRATED])]


def _line(verdict: Verdict) -> str:
    word = "safe" if verdict.safe else "BLOCKED"
    text = f"item {verdict.index:>3}  {word:<7}  "
    if verdict.probabilities is None:
        return text + verdict.reason
    text += "none of these; nearest " if verdict.none_of_these else ""
    text += f"{verdict.concept} {verdict.probability:.4f} (threshold {verdict.threshold:.4f})"
    if verdict.runner_up is not None:
        text += f", then {verdict.runner_up} {verdict.runner_up_probability:.4f}"
    return text


def _record(verdict: Verdict) -> dict[str, Any]:
    return {
        "index": verdict.index,
        "safe": verdict.safe,
        "concept": verdict.concept,
        "probability": _number(verdict.probability),
        "threshold": verdict.threshold,
        "runner_up": verdict.runner_up,
        "runner_up_probability": _number(verdict.runner_up_probability),
        "probabilities": verdict.probabilities,
        "none_of_these": verdict.none_of_these,
        "reason": verdict.reason,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
