"""Read a table from a text file: recognize its encoding, its separator and whether it has a header."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable
from pathlib import Path

from triscale.data.images.other_formats import ARRAY_SUFFIX, IMAGE_SUFFIXES
from triscale.data.sources.column_words import LABEL_WORDS, PATH_WORDS, normalized_name
from triscale.data.sources.raw_table import RawTable, TableRow
from triscale.errors import DataError

_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
_SAMPLE = 200
"""Number of rows from which the separator is recognized."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SUFFIX = rf"\.(?:{'|'.join(sorted((*IMAGE_SUFFIXES, ARRAY_SUFFIX)))})"
_PATH_FIRST = re.compile(rf"(.*?{_SUFFIX})\s+(\S.*)", re.IGNORECASE)
_PATH_LAST = re.compile(rf"(\S+)\s+(.*{_SUFFIX})", re.IGNORECASE)


def read_text_table(file: Path, is_image: Callable[[str], bool]) -> RawTable:
    """Read a table whose fields are separated by commas, semicolons, tabs, vertical bars or spaces.

    Args:
        file: The file, plain or compressed with gzip.
        is_image: Whether a field names an image; a first line with such a field is no header.

    Raises:
        DataError: The file cannot be read, is damaged, or rows have different numbers of fields.
    """
    text, note = decode_text(read_content(file), file)
    notes = [note] if note else []
    given = re.match(r"sep=(.)\r?\n", text)  # written by Excel
    text = text[given.end() :] if given else text
    separator = given[1] if given else _separator(text)
    if separator:
        records = _csv_records(file, text, separator, 1 if given else 0)
        if separator != ",":
            notes.append(f"{file.name} is separated by {_SEPARATORS.get(separator, separator)}")
    else:
        records = _spaced_records(text)
        notes.append(f"{file.name} is separated by spaces")
    records = [(line, fields) for line, fields in records if any(field.strip() for field in fields)]
    if not records:
        raise DataError(f"{file} lists no images: it is empty, and has no column path; expected one image in each row")
    header = tuple(field.strip() for field in records[0][1])
    images = [name for name in header if normalized_name(name) not in PATH_WORDS and is_image(name)]
    has_header = not images
    if has_header:
        records = records[1:]
    else:
        notes.append(f"{file.name} has no header: its first line names the image {images[0]}")
    rows = _same_width(file, records, header, has_header=has_header)
    columns = header if has_header else tuple(str(number) for number in range(1, len(header) + 1))
    return RawTable(file, columns, rows, has_header, tuple(notes))


def read_content(file: Path) -> bytes:
    """Return the bytes of a file, decompressed if its name ends in ``.gz``.

    Raises:
        DataError: It cannot be read or decompressed.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file} ({error.strerror}); make it readable") from error
    if file.suffix.lower() != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} is damaged: it cannot be decompressed ({error}); copy or save it again") from error


def decode_text(content: bytes, file: Path) -> tuple[str, str]:
    """Return a text, and a note if its encoding is neither UTF-8 nor UTF-16 with a byte order mark.

    Args:
        content: The bytes of the file.
        file: The file, for messages.

    Raises:
        DataError: A byte order mark names an encoding that the content does not have, or it is not a text.

    Example:
        >>> decode_text("Ähre".encode("cp1252"), Path("a.csv"))[0]
        'Ähre'
    """
    encoding = next((name for mark, name in _BOMS if content.startswith(mark)), None)
    if encoding is None and b"\0" in content[:200]:
        encoding = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be" if content[:1] == b"\0" else "utf-8"
    try:
        text = content.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        if encoding is not None:
            raise DataError(f"{file} is not valid {encoding.upper()}; save it as CSV in UTF-8") from error
    else:
        if "\0" in text:
            raise DataError(f"{file} is not a text file (it holds zero bytes); expected a table such as CSV in UTF-8")
        return text, f"{file.name} is read as {encoding.upper()}" if encoding and encoding != "utf-8-sig" else ""
    try:
        text, name = content.decode("cp1252"), "Windows-1252"
    except UnicodeDecodeError:
        text, name = content.decode("latin-1"), "Latin-1"
    word = next((word for word in re.findall(r"[^\s,;|]+", text) if not word.isascii()), "")
    return text, f"{file.name} is not valid UTF-8 and is read as {name} (for example {word}); save it in UTF-8 if not"


def _separator(text: str) -> str:
    """Return the separator that gives the most known column names, or the same number of fields in each row."""
    best, best_score = "", (0, 0, 0)
    for separator in _SEPARATORS:
        widths: list[int] = []
        known = 0
        try:
            for fields in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
                if not widths:
                    names = set(map(normalized_name, fields))
                    known = bool(names & PATH_WORDS.keys()) + bool(names & LABEL_WORDS.keys())
                if fields:
                    widths.append(len(fields))
                if len(widths) == _SAMPLE:
                    break
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            score = (known, 1 + (len(set(widths)) == 1), 1)
            if score > best_score:
                best, best_score = separator, score
    if best:
        return best
    lines = [line for line in text.splitlines() if line.strip()][:_SAMPLE]
    spaced = sum(len(line.split()) > 1 for line in lines)
    return "" if lines and spaced == len(lines) and '"' not in lines[0] else ","


def _csv_records(file: Path, text: str, separator: str, skipped: int) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    try:
        return [(reader.line_num + skipped, fields) for fields in reader]
    except csv.Error as error:
        raise DataError(
            f"{file} is damaged near line {reader.line_num + skipped} ({error}); expected CSV with "
            f"{_SEPARATORS.get(separator, separator)} and balanced quotes"
        ) from error


def _spaced_records(text: str) -> list[tuple[int, list[str]]]:
    """Return the fields of lines such as ``images/a.jpg 3``; a path may hold spaces if it ends as an image."""
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    split = [(number, line.split()) for number, line in lines]
    if len({len(fields) for _, fields in split}) == 1:
        return split
    records: list[tuple[int, list[str]]] = []
    for (number, line), (_, fields) in zip(lines, split, strict=True):
        found = _PATH_FIRST.fullmatch(line) or _PATH_LAST.fullmatch(line)
        records.append((number, list(found.groups()) if found else fields))
    return records


def _same_width(
    file: Path, records: list[tuple[int, list[str]]], header: tuple[str, ...], *, has_header: bool
) -> tuple[TableRow, ...]:
    """Return the rows; empty fields at the end, which spreadsheets write, are dropped."""
    rows: list[TableRow] = []
    for line, all_fields in records:
        fields = all_fields if any(field.strip() for field in all_fields[len(header) :]) else all_fields[: len(header)]
        if len(fields) != len(header):
            first = f": {','.join(header)}" if has_header else ""
            raise DataError(
                f"line {line} of {file} has {len(fields)} fields; expected {len(header)}, as in the first line{first}"
            )
        rows.append(TableRow(f"line {line}", tuple(fields)))
    return tuple(rows)
