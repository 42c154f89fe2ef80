"""`python -m lclip safety`: which latents are safe by a policy."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .many import ask
from .options import INPUTS, PRESETS, add_input, add_model_options, add_output_options
from .parsing import add_command

if TYPE_CHECKING:
    from ..safety.safety_policy import SafetyPolicy

EXIT = "0 if every latent is safe, else 1; one that cannot be read is not safe"


def add_to(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "safety",
        run,
        "Which latents are safe by a policy. Whatever is not provably safe is blocked.\n"
        "Every row says safe or not, the concept nearest to its threshold, and why.\n"
        + INPUTS.format(exit=EXIT),
        """
        python -m lclip safety --model latent-clip-b-8.safetensors --preset i2p ComfyUI/output/latents \\
            --out verdicts.csv
        """,
    )
    add_input(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--preset",
        metavar="NAME",
        choices=PRESETS,
        help="a policy that comes with the library: %(choices)s",
    )
    what.add_argument("--policy", type=Path, metavar="FILE", help="a policy as JSON, calibrated or by hand")
    what.add_argument(
        "--concepts",
        type=Path,
        metavar="FILE",
        help="concepts as text, a line each: name: unsafe | unsafe // safe | safe",
    )
    parser.add_argument(
        "--strictness",
        metavar="S",
        help="low, medium, high, or log-odds that lower every threshold (default: the policy's own)",
    )
    add_model_options(parser)
    add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """Judge."""
    from ..bulk.questions import Safety
    from ..safety.report import of_thresholds

    policy = _policy(options)
    for note in of_thresholds(policy):
        print(f"safety: note: {note}", file=sys.stderr)
    return ask(options, Safety(policy))


def _policy(options: argparse.Namespace) -> SafetyPolicy:
    from ..data.texts import read_text
    from ..safety.presets import parse_concepts
    from ..safety.safety_policy import SafetyPolicy
    from ..safety.stored import policy_in

    if options.preset:
        policy = SafetyPolicy.preset(options.preset)
    elif options.policy:
        policy = policy_in(read_text(options.policy))
    else:
        policy = SafetyPolicy(parse_concepts(read_text(options.concepts)))
    if options.strictness is None:
        return policy
    return policy.changed(strictness=_strictness(options.strictness))


def _strictness(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text  # one of the words; the policy says which
