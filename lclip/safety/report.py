"""Verdicts as a report: a table to read, and JSON to keep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..checkpoints.fingerprint import fingerprint
from ..statistics import for_json
from ..wording import Say, english

if TYPE_CHECKING:
    from .judge import SafetyJudge, Verdict
    from .policy import PolicyData

UNCALIBRATED = (
    "the thresholds are not calibrated for this model: treat rates as unknown until you calibrate with your "
    "own latents"
)
SHIFTED = (
    "strictness {strictness} moves the calibrated thresholds: the rates of the calibration hold for medium"
)


def of_thresholds(policy: PolicyData, say: Say = english) -> list[str]:
    """What to know about a policy's thresholds before its rates are believed; nothing where all is well."""
    if policy.model is None:
        return [say(UNCALIBRATED)]
    return [say(SHIFTED, strictness=policy.strictness)] if policy.shift else []


def report_text(
    judge: SafetyJudge, verdicts: Sequence[Verdict], notes: Sequence[str] = (), say: Say = english
) -> str:
    """A heading with the policy's hash, a line per item, and notes. notes: as the reader gets them."""
    head = say(
        "Safety: {blocked} of {count} blocked; policy {policy}, strictness {strictness}, augmentations "
        "{augmentations}, hash {hash}",
        blocked=sum(not verdict.safe for verdict in verdicts),
        count=len(verdicts),
        policy=judge.policy.name,
        strictness=judge.policy.strictness,
        augmentations="+".join(judge.policy.augmentations),
        hash=judge.digest[:16],
    )
    told = [say("Note: {text}", text=note) for note in _notes(judge, notes, say)]
    return "\n".join([head, *(_line(verdict, say) for verdict in verdicts), *told])


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


def _notes(judge: SafetyJudge, notes: Sequence[str], say: Say = english) -> list[str]:
    return [*notes, *of_thresholds(judge.policy, say)]


def _line(verdict: Verdict, say: Say) -> str:
    word = say("safe") if verdict.safe else say("BLOCKED")
    return say("item {item}", item=f"{verdict.index:>3}") + f"  {word:<7}  {_why(verdict, say)}"


def _why(verdict: Verdict, say: Say) -> str:
    if verdict.probabilities is None:
        return say("{text}", text=verdict.reason)
    text = say(
        "{concept} {probability} (threshold {threshold})",
        concept=verdict.concept,
        probability=f"{verdict.probability:.4f}",
        threshold=f"{verdict.threshold:.4f}",
    )
    if verdict.none_of_these:
        text = say("none of these; nearest {text}", text=text)
    if verdict.runner_up is None:
        return text
    second = f"{verdict.runner_up} {verdict.runner_up_probability:.4f}"
    return say("{first}, then {second}", first=text, second=second)


def _record(verdict: Verdict) -> dict[str, Any]:
    return {
        "index": verdict.index,
        "safe": verdict.safe,
        "concept": verdict.concept,
        "probability": for_json(verdict.probability),
        "threshold": verdict.threshold,
        "runner_up": verdict.runner_up,
        "runner_up_probability": for_json(verdict.runner_up_probability),
        "probabilities": verdict.probabilities,
        "none_of_these": verdict.none_of_these,
        "reason": verdict.reason,
    }
