"""Tables of results: rows as CSV, as JSON lines and as Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoints.atomic import atomic_file
from ..data.tally import Tally
from ..statistics import for_json
from .asking import Block
from .questions import FLAG, NUMBER, TEXT, VECTOR, Question, Values

LINES = (".csv", ".jsonl")
FORMATS = (*LINES, ".parquet")
DIGITS = 7  # of a float32
NO_PYARROW = (
    "Parquet needs pyarrow, which is not installed. Install it (pip install pyarrow, or the extra: "
    'pip install "latent-clip[bulk]"), or write .csv or .jsonl'
)


def all_columns(question: Question) -> dict[str, str]:
    """Kind of every column of a question's table, in order."""
    return {"file": TEXT, "item": TEXT, **question.columns(), "note": TEXT, "error": TEXT}


def format_of(path: Path) -> str:
    """A table's format, by the ending of its name. ValueError for another."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        hint = " One JSON object a line is called .jsonl." if suffix == ".json" else ""
        raise ValueError(f"{path} ends in {suffix!r}; expected one of {', '.join(FORMATS)}.{hint}")
    if suffix == ".parquet":
        require_pyarrow()
    return suffix


def require_pyarrow() -> Any:
    """The module pyarrow, with pyarrow.parquet. ValueError that says how to get it."""
    try:
        import pyarrow.parquet  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(NO_PYARROW) from error
    return pyarrow


def header(columns: Mapping[str, str], suffix: str) -> str:
    """What stands before the first row of a table in lines."""
    return _csv([list(columns)]) if suffix == ".csv" else ""


def lines(block: Block, columns: Mapping[str, str], suffix: str) -> str:
    """A block's rows as text, each ending in a line break and holding no other."""
    rows = zip(*(block.values[column] for column in columns), strict=True)
    plain = [[_plain(value) for value in row] for row in rows]
    if suffix == ".csv":
        return _csv([[_cell(value) for value in row] for row in plain])
    return "".join(json.dumps(dict(zip(columns, row, strict=True)), allow_nan=False) + "\n" for row in plain)


def parse_lines(text: Iterable[str], columns: Mapping[str, str], suffix: str) -> Iterator[dict[str, Any]]:
    """Rows that `lines` wrote, with values of their columns' kinds. Raises ValueError for other text."""
    if suffix == ".jsonl":
        yield from map(json.loads, text)
        return
    rows = csv.reader(text)
    if next(rows, None) != list(columns):
        raise ValueError(f"the table does not begin with the columns {', '.join(columns)}")
    for row in rows:
        pairs = zip(columns.items(), row, strict=True)
        yield {name: _from_cell(cell, kind) for (name, kind), cell in pairs}


def block_of(rows: list[dict[str, Any]], columns: Iterable[str]) -> Block:
    """Rows as a block."""
    return Block({column: [row.get(column) for row in rows] for column in columns})


def write_table(path: Path, blocks: Iterable[Block], columns: Mapping[str, str], suffix: str) -> Tally:
    """Write a whole table, atomically and block by block, and count its rows."""
    tally = Tally()
    with atomic_file(path) as temporary:
        if suffix == ".parquet":
            _write_parquet(temporary, blocks, columns, tally)
            return tally
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(header(columns, suffix))
            for block in blocks:
                file.write(lines(block, columns, suffix))
                tally.add(block.tally())
    return tally


def _write_parquet(path: Path, blocks: Iterable[Block], columns: Mapping[str, str], tally: Tally) -> None:
    pa = require_pyarrow()
    types = {TEXT: pa.string(), NUMBER: pa.float32(), FLAG: pa.bool_(), VECTOR: pa.list_(pa.float32())}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    with pa.parquet.ParquetWriter(path, schema) as writer:
        for blocks_of_a_group in _groups(blocks, 4096):
            values: Values = {name: [] for name in columns}
            for block in blocks_of_a_group:
                tally.add(block.tally())
                for name in columns:
                    values[name] += block.values[name]
            # from_pandas: a number that does not exist is null, as in the other formats
            arrays = [pa.array(values[name], types[kind], from_pandas=True) for name, kind in columns.items()]
            writer.write_table(pa.table(arrays, schema=schema))


def _groups(blocks: Iterable[Block], rows: int) -> Iterator[list[Block]]:
    """Blocks together until they have that many rows: a row group should not be small."""
    group: list[Block] = []
    for block in blocks:
        group.append(block)
        if sum(map(len, group)) >= rows:
            yield group
            group = []
    if group:
        yield group


def _plain(value: Any) -> Any:
    """A value as JSON knows it; a number that does not exist is None."""
    if isinstance(value, float):
        return for_json(float(f"{value:.{DIGITS}g}"))
    if isinstance(value, np.ndarray):
        return [float(f"{number:.{DIGITS}g}") for number in value.tolist()]
    return value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return " ".join(value.splitlines()) if isinstance(value, str) else json.dumps(value)


def _from_cell(cell: str, kind: str) -> Any:
    if kind == TEXT or not cell:
        return cell or None
    return json.loads(cell)


def _csv(rows: list[list[str]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()
