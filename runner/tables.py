"""Rows as plain text tables, for a terminal and for a pipe alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def text_table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The rows under their names, in columns; numbers to the right, None as nothing."""
    rows = list(rows)
    texts = [[_text(value) for value in row] for row in rows]
    widths = [max(len(name), *(len(row[i]) for row in texts), 0) for i, name in enumerate(names)]
    right = [bool(rows) and all(isinstance(row[i], (int, float)) for row in rows) for i in range(len(names))]
    lines = [[*names], ["-" * width for width in widths], *texts]
    return "\n".join(
        "  ".join(
            text.rjust(width) if is_right else text.ljust(width)
            for text, width, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value).replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t").replace("\x1b", "\\x1b")
