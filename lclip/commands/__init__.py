"""The commands of `python -m lclip`: a file each, with `add_to(subparsers)` and `run(options) -> exit code`.

A new command is one file here and its name in COMMANDS. Exit codes: 0 all is well; 1 the work was done, but
not every item is well (each command's help says what that means); 2 the command could not be carried out as
it was given.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

COMMANDS = (
    "info", "convert", "score", "classify", "select", "safety", "embed", "reno", "explore", "adapter",
    "train", "evaluate", "demo", "bench",
)  # fmt: skip
"""Names of the modules beside this one, in the order of the help."""

OK, SOME_FAILED, USAGE, FAULT, INTERRUPTED, CLOSED_PIPE = 0, 1, 2, 70, 130, 141
"""Exit codes. The last two are a shell's own for an interrupt and for a pipe that nobody reads; FAULT is a
fault of the program, with its traceback.
"""
WARNINGS_SHOWN = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse a command line (that of this process by default), carry it out, return the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    _mend_streams()
    try:
        return _carry_out(_parsed(arguments))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its exit
        return CLOSED_PIPE


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = make_parser()
    try:
        options, rest = parser.parse_known_args(arguments)
        rest = _late(options, rest)
        if rest and not getattr(options, "passes_on", False):
            parser.error(f"unknown arguments: {' '.join(rest)}; see python -m lclip {options.command} --help")
    except SystemExit:
        sys.stdout.flush()  # of a help that nobody reads to its end
        raise
    options.all_arguments = arguments[1:]
    return options


def _carry_out(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logger, first_few = logging.getLogger("latent-clip"), _FirstFew()
    logger.addFilter(first_few)
    try:
        code = options.run(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        print(f"lclip {options.command}: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print(f"lclip {options.command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception:
        traceback.print_exc()
        return FAULT
    finally:
        logger.removeFilter(first_few)


def _mend_streams() -> None:
    """See to it that no row is lost for where it is written to.

    A redirected console on Windows knows some 250 signs: another is written as its number. A stream that was
    closed before the start is None.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # until the end
        elif hasattr(stream, "reconfigure") and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `options.run`."""
    parser = argparse.ArgumentParser(
        prog="python -m lclip",
        description="Score, choose, improve and gate pictures while they are still latents.",
        epilog="python -m lclip COMMAND --help tells more, with an example.",
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f".{name}", __package__).add_to(subparsers)
    return parser


def _late(options: argparse.Namespace, rest: list[str]) -> list[str]:
    """What is left of the rest once a positional that a command calls `late` has its word.

    argparse gives an optional positional its turn with the first one, so that it cannot stand after options.
    """
    late = getattr(options, "late", None)
    if late is None or getattr(options, late) or any(word.startswith("-") for word in rest):
        return rest
    if isinstance(getattr(options, late), list):
        setattr(options, late, [Path(word) for word in rest])
    elif len(rest) == 1:
        setattr(options, late, Path(rest[0]))
    else:
        return rest
    return []


class _FirstFew(logging.Filter):
    """Lets the library's first warnings through: of 100,000 captions, many may be too long."""

    def __init__(self) -> None:
        super().__init__()
        self.left = WARNINGS_SHOWN

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        self.left -= 1
        if self.left == 0:
            record.msg, record.args = f"{record.getMessage()} (more such warnings are not shown)", ()
        return self.left >= 0
