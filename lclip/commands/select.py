"""`python -m lclip select`: the latents that fit best."""

from __future__ import annotations

import argparse
import csv
import heapq
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .many import fill, items_with_bar, progress, report, settings_of, shards_of
from .options import EXIT, INPUTS, add_input, add_model_options, add_size_rule, source_of
from .parsing import add_command, positive

if TYPE_CHECKING:
    from ..bulk.asking import Asker

Row = tuple[str, str, float]
"""File, item and score."""
Identity = Callable[[str], str]
"""The same for every name of a file, in the list as in the input."""


def add_to(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "select",
        run,
        "The latents that fit a text best, of however many: a list, best first.\n"
        "Several texts are averaged. Ties keep their order.\n" + INPUTS.format(exit=EXIT),
        """
        python -m lclip select --model latent-clip-b-8.safetensors --text "a red fox" -k 10 \\
            ComfyUI/output/latents --save-to best
        """,
    )
    add_input(parser)
    parser.add_argument("--text", action="append", required=True, metavar="TEXT", help="what they show")
    parser.add_argument("-k", type=positive, default=1, metavar="N", help="how many (default %(default)s)")
    parser.add_argument(
        "--save-to",
        type=Path,
        metavar="FOLDER",
        help="write them there too, as .latent that the host's LoadLatent reads",
    )
    parser.add_argument(
        "--scores",
        type=Path,
        metavar="FILE",
        help="keep every score in this .csv or .jsonl; an interrupted run goes on from it",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what --scores and --save-to hold of before"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_size_rule(parser)
    add_model_options(parser)


def run(options: argparse.Namespace) -> int:
    """Select, list, and save."""
    from ..bulk.asking import Asker
    from ..bulk.questions import Score
    from ..checkpoints.claims import claimed, lock_of
    from ..checkpoints.targets import check_writable
    from ..data.finding import find_shards
    from ..scoring import too_many

    next(find_shards(options.inputs, 1), None)
    if options.scores:
        check_writable(options.scores)
    if options.save_to:
        _check_target(options)
    asker = Asker(Score(tuple(options.text), options.size_rule), source_of(options).load(), options.batch)
    best, code, identity = _claimed_table(options, asker) if options.scores else _from_stream(options, asker)
    if (text := too_many(options.k, len(best))) is not None:
        print(f"select: {text}", file=sys.stderr)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["rank", "file", "item", "score"])
    for rank, (file, item, score) in enumerate(best, 1):
        writer.writerow([rank, file, item, f"{score:.7g}"])
    if options.save_to:
        with claimed(options.save_to, lock_of(options.save_to)):
            code = max(code, _save(options, best, identity))
    return code


def _check_target(options: argparse.Namespace) -> None:
    """Refuse a folder for the chosen ones that holds others, or that would be its own input."""
    from ..checkpoints.targets import check_folder, check_names
    from ..data.shards import PIPE

    target = options.save_to
    check_names(target)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} does not exist; create it first")
    for source in options.inputs:  # files too: they would be taken for old copies, and removed
        named = not str(source).startswith(PIPE)
        if named and Path(os.path.realpath(source)).is_relative_to(os.path.realpath(target)):
            raise ValueError(f"--save-to {target} is where the input is read from; give another folder")
    if target.is_dir() and not options.overwrite:
        there = next((path.name for path in sorted(target.iterdir()) if not path.name.startswith(".")), None)
        if there is not None:
            raise ValueError(
                f"{target} holds {there}; expected a new or empty folder. Give another one, or --overwrite "
                "to replace what was selected before"
            )
    check_folder(target, ("x" * 200,))


def _claimed_table(options: argparse.Namespace, asker: Asker) -> tuple[list[Row], int, Identity]:
    from ..checkpoints.claims import claimed, lock_of

    with claimed(options.scores, lock_of(options.scores)):
        return _from_table(options, asker)


def _from_table(options: argparse.Namespace, asker: Asker) -> tuple[list[Row], int, Identity]:
    from ..bulk.results import GrowingTable
    from ..bulk.tables import LINES

    if options.scores.suffix.lower() not in LINES:
        raise ValueError(f"--scores is {options.scores}; expected a name that ends in {' or '.join(LINES)}")
    table = GrowingTable(options.scores, asker.question, settings_of(options, asker), options.overwrite)
    fill(options, asker, table)
    scored = (row for row in table.rows_given() if not row["error"])
    rows = ((row["file"], row["item"], [row[text] for text in options.text]) for row in scored)
    best = _best(rows, options.k)
    code = report(options.command, asker, *table.tally_given())
    return best, code, lambda name: table.where.identity(table.where.shown(name))


def _from_stream(options: argparse.Namespace, asker: Asker) -> tuple[list[Row], int, Identity]:
    from ..data.tally import Tally

    tally = Tally()

    def rows(bar: Any) -> Iterator[tuple[str, str, list[float | None]]]:
        for block in asker.blocks(items_with_bar(options, bar)):
            tally.add(block.tally())
            bar.update(len(block))
            scores = zip(*(block.values[text] for text in options.text), strict=True)
            rows = zip(block.values["file"], block.values["item"], map(list, scores), strict=True)
            yield from (row for row, error in zip(rows, block.values["error"], strict=True) if not error)

    with progress(options, " latents") as bar:
        best = _best(rows(bar), options.k)
    return best, report(options.command, asker, tally), str


def _best(rows: Iterator[tuple[str, str, list[float | None]]], k: int) -> list[Row]:
    """The k rows with the highest mean score, NaN last; no more than that many are ever held."""
    scored = (
        (not math.isnan(mean), 0.0 if math.isnan(mean) else mean, -place, file or "", item or "")
        for place, (file, item, scores) in enumerate(rows)
        for mean in [sum(math.nan if score is None else score for score in scores) / len(scores)]
    )
    best = heapq.nlargest(k, scored)
    return [(file, item, score if number else math.nan) for number, score, _, file, item in best]


def _clear(folder: Path) -> Path:
    """Away with what an earlier selection wrote, and with nothing else. -> where the next one's names go: a
    hidden file beside the folder, a line for each of its files."""
    names = Path(os.path.abspath(folder)).with_name(f".{folder.resolve().name}.selected")
    if names.is_file():
        for name in names.read_text(encoding="utf-8", errors="surrogateescape").split("\n"):
            if name and Path(name).name == name:
                (folder / name).unlink(missing_ok=True)
        names.unlink()
    return names


def _save(options: argparse.Namespace, best: list[Row], identity: Identity) -> int:
    """Read the chosen ones again and write each as a file of its own, its rank first in the name.

    Returns 1 where some of them are no longer there, or a tar holds their key twice, so that nothing says
    which is meant.
    """
    from ..checkpoints.targets import plain_name
    from ..data.files import write_latents
    from ..data.items import readable
    from ..data.reader import read_all

    names_written = _clear(options.save_to)
    left = {(identity(file), item): rank for rank, (file, item, _) in enumerate(best, 1)}
    files, written, twice = {file for file, _ in left}, {}, set()
    for shard in shards_of(options):
        paths = shard.files or (Path(shard.name),)
        if files.isdisjoint(identity(readable(path)) for path in paths):
            continue
        for item in read_all([shard], latent_key=options.latent_key):
            key = identity(item.file), item.item
            if key in written:
                twice.add(key)
                written[key].unlink(missing_ok=True)
            if key in left and item.latents is not None:
                rank, stem = left.pop(key), Path(item.file).name.partition(".")[0]
                z = item.latents[None, :, None] if item.frame else item.latents[None]  # as it was stored
                name = plain_name(f"{rank:04}_{stem}_{item.item}", ".latent")
                with names_written.open("a", encoding="utf-8", errors="surrogateescape") as names:
                    names.write(name + "\n")
                written[key] = write_latents(z, options.save_to / name)
    told = f"select: {len(written) - len(twice)} latents written to {options.save_to}"
    if twice:
        told += f"; of {min(twice)[1]} there are two, and which is meant is not known"
    if left:
        file, item, _ = best[min(left.values()) - 1]
        told += f"; {len(left)} could not be read again, the first: {file} {item}".rstrip()
    print(told, file=sys.stderr)
    return 1 if left or twice else 0
