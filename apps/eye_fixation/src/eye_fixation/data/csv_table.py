"""CSV files of any of three separators, with errors that name the row."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from common.config import UserError

SEPARATORS = (",", ";", "\t")

V = TypeVar("V")


@dataclass(frozen=True)
class Table:
    """Columns of text by lower-case name, and the row of the file of each value, the header being 1."""

    path: Path
    columns: dict[str, list[str]]
    rows: NDArray[np.int64]

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def text(self, name: str, default: str = "") -> NDArray[np.str_]:
        """Return a column (n,), or `default` in every row where there is none."""
        return np.array(self.columns.get(name) or [default] * len(self.rows), dtype=np.str_)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column (n,), NaN where a cell is empty. Raises UserError naming row, column and text."""
        words = [word or "nan" for word in self.columns[name]]
        try:
            return np.array(words, dtype=np.float64)
        except ValueError:
            return np.array(self._each(name, float, "a number", words))

    def each(self, name: str, read: Callable[[str], V], expected: str) -> list[V]:
        """Return `read` of every cell. Raises UserError naming row, column and text where it cannot."""
        return self._each(name, read, expected, self.columns[name])

    def _each(self, name: str, read: Callable[[str], V], expected: str, words: Sequence[str]) -> list[V]:
        values = []
        for row, word in zip(self.rows, words):
            try:
                values.append(read(word))
            except (ValueError, KeyError):
                raise UserError(
                    f"{self.path}: row {row}, column {name}: {word!r} is not {expected}"
                ) from None
        return values

    def fail(self, index: int, text: str) -> UserError:
        """Return an error about the row of the value at `index`."""
        return UserError(f"{self.path}: row {self.rows[index]}: {text}")


def read_table(path: Path, required: Sequence[str]) -> Table:
    """Return a UTF-8 file with a header, separated by commas, semicolons or tabs; empty rows are skipped.

    Raises UserError naming the file for unreadable text or a missing or doubled column, and the row of
    another number of cells.
    """
    lines = _lines(path)
    header = [name.strip().lower() for name in lines[0][1]] if lines else []
    if missing := [name for name in required if name not in header]:
        raise UserError(
            f"{path}: no column {', '.join(missing)}; columns found: {', '.join(header) or 'none'}"
        )
    if doubled := sorted({name for name in header if header.count(name) > 1}):
        raise UserError(f"{path}: column {', '.join(doubled)} occurs twice")
    for number, cells in lines[1:]:
        if len(cells) != len(header):
            raise UserError(f"{path}: row {number}: {len(cells)} cells, the header has {len(header)}")
    if len(lines) < 2:
        raise UserError(f"{path}: no rows under the header")
    values = zip(*(cells for _, cells in lines[1:]))
    columns = {name: [cell.strip() for cell in column] for name, column in zip(header, values)}
    return Table(path, columns, np.array([number for number, _ in lines[1:]]))


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            separator = max(SEPARATORS, key=head.count)
            reader = enumerate(csv.reader(file, delimiter=separator), 1)
            return [(number, row) for number, row in reader if any(cell.strip() for cell in row)]
    except OSError as error:
        raise UserError(f"--input {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: {error}") from None
