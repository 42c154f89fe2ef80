"""Texts that people wrote with whatever editor: UTF-8 with or without a mark, and UTF-16 with one."""

from __future__ import annotations

import codecs
import csv
import io
from pathlib import Path

UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decoded(content: bytes, whole: bool = True) -> str:
    """Bytes as text, without the mark. whole: False where the end may be cut within a sign.

    Raises ValueError for any other encoding: a guess would be another text.
    """
    encoding = "utf-16" if content.startswith(UTF16) else "utf-8-sig"
    try:
        return codecs.getincrementaldecoder(encoding)().decode(content, whole)
    except UnicodeDecodeError as error:
        wrong = f"byte {error.start} is 0x{content[error.start]:02x}" if error.start < len(content) else ""
        told = "UTF-16 that is damaged" if encoding == "utf-16" else f"no text in UTF-8: {wrong}"
        raise ValueError(f"{told}; save it as UTF-8") from error


def read_text(path: Path) -> str:
    """A text file that a user wrote. Raises OSError, ValueError that names the file."""
    try:
        text = decoded(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_table(path: Path, expected: str) -> tuple[list[str], list[dict[str, str]]]:
    """The columns of a CSV, in lower case, and its rows by them; what a row lacks is empty.

    expected: which columns, for the one who wrote it. Raises OSError, ValueError that names the file.
    """
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""), restval="")
    try:
        names = {name: name.strip().lower() for name in rows.fieldnames or []}
        if len(names) == 1 and (sign := next((s for s in ";\t" if s in next(iter(names))), None)):
            raise ValueError(
                f"{path}: its columns are parted by {sign!r}; save it parted by commas: {expected}"
            )
        found = [{names[name]: row[name].strip() for name in names} for row in rows]
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {rows.line_num}: {error}; expected a CSV of {expected}. The cause may be a "
            "quotation mark that is not closed"
        ) from error
    return list(dict.fromkeys(names.values())), found
