"""The way through of the commands that ask something of many latents: read, ask, write, report."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import source_of

if TYPE_CHECKING:
    from ..bulk.asking import Asker
    from ..bulk.questions import ModelSource, Question
    from ..bulk.results import GrowingTable
    from ..data.items import LatentItem
    from ..data.shards import Shard
    from ..data.tally import Tally


def ask(options: argparse.Namespace, question: Question) -> int:
    """Ask a question of all latents that the options name, write and report the answers."""
    from ..bulk.asking import Asker
    from ..checkpoints.targets import check_names, check_writable
    from ..data.finding import find_shards

    if options.out is not None:
        check_names(options.out)
    in_parts = options.out is not None and (options.out.is_dir() or not options.out.suffix)
    if not in_parts and (options.workers > 1 or options.engine == "ray"):
        raise ValueError("several workers write several tables: give --out the name of a folder")
    if options.out is not None and not in_parts and options.format:
        raise ValueError(f"--format is for folders; the format of {options.out} is in its name")
    next(find_shards(options.inputs, 1), None)  # what is not there is said before the model is loaded
    if options.out is not None and not in_parts:
        check_writable(options.out)
    source = source_of(options)
    asker = Asker(question, source.load(), options.batch)
    if in_parts:
        return _into_folder(options, asker, source)
    return _to_terminal(options, asker) if options.out is None else _into_file(options, asker)


def settings_of(options: argparse.Namespace, asker: Asker) -> dict[str, Any]:
    """All that can change an answer."""
    from ..checkpoints.fingerprint import fingerprint

    question = asker.question
    about: dict[str, Any] = {"format": "latent-clip-results", "version": 1, "command": question.name}
    if options.latent_key is not None:
        about["latent_key"] = options.latent_key
    return {**about, "model": fingerprint(asker.model), "dtype": options.dtype, **question.settings()}


def report(command: str, asker: Asker, tally: Tally, old: int = 0, lost: int = 0) -> int:
    """Say what came out, and give the exit code. old: rows of earlier runs. lost: shards that failed."""
    from ..bulk.asking import BLOCKED, FAILED, NOTED

    question, counts, first = asker.question, tally.counts, tally.first
    judged = "safe" in question.columns()  # of a policy what cannot be read is judged too: it is blocked
    number = tally.items if judged else tally.items - counts[FAILED]
    told = f"{command}: {number} latents {question.verb}"
    told = told if number == tally.items else f"{command}: {number} of {tally.items} latents {question.verb}"
    told += f" ({old} of {'them' if number == tally.items else 'all'} in earlier runs)" if old else ""
    if judged:
        told += f", {counts[BLOCKED]} blocked"
    if counts[FAILED]:
        told += f"; {counts[FAILED]} could not be read, the first: {first[FAILED]}"
    for doubt in asker.text_doubts:
        print(f"{command}: note: {doubt}", file=sys.stderr)
    if counts[NOTED]:
        told += f"; {counts[NOTED]} look odd, the first: {first[NOTED]}"
    print(told, file=sys.stderr)
    return 1 if counts[FAILED] or counts[BLOCKED] or lost else 0


@contextmanager
def progress(options: argparse.Namespace, unit: str, total: int | None = None) -> Iterator[Any]:
    """A bar on the terminal's error stream; nothing where that is no terminal, or with --quiet."""
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, disable=True if options.quiet else None, smoothing=0.05) as bar:
        yield bar


def shards_of(options: argparse.Namespace) -> Iterator[Shard]:
    """The input's samples one by one, without what is in the folder that copies are written to."""
    from ..data.finding import find_shards
    from ..data.identity import real_path

    copies = getattr(options, "save_to", None)
    inside = None if copies is None else os.path.join(os.path.realpath(copies), "")
    for shard in find_shards(options.inputs, 1):
        names = [str(path) for path in shard.files] or [shard.name]
        if inside is None or not any(real_path(name).startswith(inside) for name in names):
            yield shard


def items_with_bar(options: argparse.Namespace, bar: Any, captions: bool = False) -> Iterator[LatentItem]:
    """The input's latents; the bar says which of how many files and shards is being read."""
    from ..data.reader import read_all

    number = sum(1 for _ in shards_of(options)) if not bar.disable else 0

    def shards() -> Iterator[Shard]:
        for place, shard in enumerate(shards_of(options), 1):
            bar.set_postfix_str(f"file {place} of {number}", refresh=False)
            yield shard

    return read_all(shards(), captions, options.latent_key)


def _to_terminal(options: argparse.Namespace, asker: Asker) -> int:
    from ..bulk.tables import all_columns, header, lines
    from ..data.tally import Tally

    suffix, columns = f".{options.format or 'csv'}", all_columns(asker.question)
    if suffix == ".parquet":
        raise ValueError("Parquet is not for a terminal: name a file by --out")
    tally = Tally()
    sys.stdout.write(header(columns, suffix))
    with progress(options, " latents") as bar:
        for block in asker.blocks(items_with_bar(options, bar, asker.question.wants_captions)):
            sys.stdout.write(lines(block, columns, suffix))
            sys.stdout.flush()
            tally.add(block.tally())
            bar.update(len(block))
    return report(options.command, asker, tally)


def _into_file(options: argparse.Namespace, asker: Asker) -> int:
    from ..bulk.results import GrowingTable
    from ..checkpoints.claims import claimed, lock_of

    with claimed(options.out, lock_of(options.out)):
        table = GrowingTable(options.out, asker.question, settings_of(options, asker), options.overwrite)
        fill(options, asker, table)
        path = table.finish()
    code = report(options.command, asker, table.tally, table.old)
    print(f"written to {path}", file=sys.stderr)
    return code


def fill(options: argparse.Namespace, asker: Asker, table: GrowingTable) -> None:
    """Ask about every item that a growing table does not have yet."""
    if table.changed:
        told = f"{table.changed} rows were of files that have changed since; they are done again"
        print(f"{options.command}: {told}", file=sys.stderr)
    try:
        with progress(options, " latents") as bar:
            items = items_with_bar(options, bar, asker.question.wants_captions)
            for block in asker.blocks(table.new(items)):
                table.write(block)
                bar.update(len(block))
    finally:
        table.close()


def _into_folder(options: argparse.Namespace, asker: Asker, source: ModelSource) -> int:
    from ..bulk.engines import choose_engine
    from ..checkpoints.claims import claimed, lock_of
    from ..checkpoints.targets import check_folder

    engine = choose_engine(options.engine, options.workers)
    check_folder(options.out)
    with claimed(options.out, lock_of(options.out)):
        return _all_parts(options, asker, source, engine)


def _all_parts(options: argparse.Namespace, asker: Asker, source: ModelSource, engine: str) -> int:
    from ..bulk.engines import work_off
    from ..bulk.parts import PartsFolder, Work, Worker
    from ..data.finding import find_shards

    suffix = f".{options.format or 'parquet'}"
    folder = PartsFolder(options.out, suffix, settings_of(options, asker), options.overwrite)
    number = folder.plan(find_shards(options.inputs))
    old, new, lost = folder.tally().items, 0, 0
    target = options.out.absolute()
    here, key = Path.cwd(), options.latent_key
    work = Work(asker.question, source, target, suffix, options.batch, here, key, folder.where)
    shards = (shard for shard in find_shards(options.inputs) if not folder.is_done(shard))
    with progress(options, " shards", number) as bar:
        for outcome in work_off(shards, work, options.workers, engine, Worker(work, asker)):
            bar.update()
            if outcome.tally is None:
                lost += 1
                first = os.fspath(next(iter(outcome.shard.files), outcome.shard.name))
                print(f"{asker.question.name}: shard {first} failed twice: {outcome.error}", file=sys.stderr)
                continue
            folder.note(outcome.shard, outcome.tally)
            new += outcome.tally.items
            bar.set_postfix_str(f"{new} latents", refresh=False)
    code = report(options.command, asker, folder.tally(), old, lost)
    print(f"tables in {options.out}" + (f"; {lost} shards have none" if lost else ""), file=sys.stderr)
    return code
