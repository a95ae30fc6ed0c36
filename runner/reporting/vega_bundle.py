"""Vega-Lite's JavaScript as one text, from vl-convert. To put it together takes seconds, so it is kept."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Final

import vl_convert

from ..project import checksum
from ..whole_files import write_whole

#: The bundle is a module: its names are its own but for this one.
_EXPORT: Final = "window.vegaEmbed = vegaEmbed;"


def vega_bundle() -> str:
    """The text of a module that sets `window.vegaEmbed`."""
    # RuntimeError: a user without a home. Then, as where nothing can be written, it is put together each time.
    with suppress(OSError, UnicodeDecodeError, RuntimeError):
        head, _, kept = _kept_file().read_text(encoding="utf-8").partition("\n")
        if head == _head(kept):
            return kept
    text = vl_convert.javascript_bundle(_EXPORT)
    with suppress(OSError, RuntimeError):
        path = _kept_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, f"{_head(text)}\n{text}".encode())
    return text


def _head(text: str) -> str:
    """The first line of the kept file, by which one that is damaged is known."""
    return f"// {checksum(text.encode())}"


def _kept_file() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return folder / "clickmart" / f"vega-{version('vl-convert-python')}.js"
