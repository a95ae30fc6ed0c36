"""The settings of a project: what templates see as `settings`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from .errors import ProjectError

FILE_NAME: Final = "clickmart.toml"
MAX_TOP_PAGES: Final = 1_000_000
PATTERNS: Final = ("product", "cart", "payment", "confirmation")


@dataclass(frozen=True, slots=True)
class Settings:
    """Values of the `[settings]` table of clickmart.toml; the defaults are those of docs/meaning.md.

    product, cart, payment, confirmation: regular expressions of PostgreSQL on the page path, the first that matches
    is the view's step. purchase_window: an interval of PostgreSQL. top_pages: rows of cdm.top_pages.
    """

    product: str = "^product_"
    cart: str = "^cart(/|$)"
    payment: str = "^payment(/|$)"
    confirmation: str = "^confirmation(/|$)"
    purchase_window: str = "1 day"
    top_pages: int = 10

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


DEFAULT_FILE: Final = f"""\
# Settings of this clickmart project. What is left out has the value shown here.

[settings]
# Steps of the purchase: regular expressions of PostgreSQL on the page path (no leading slashes, no query).
# A page's step is the first that matches.
{"".join(f"{name} = '{getattr(Settings(), name)}'{chr(10)}" for name in PATTERNS)}
# How long before its confirmation a view still counts for a purchase: an interval of PostgreSQL.
purchase_window = "{Settings().purchase_window}"

# Rows of cdm.top_pages.
top_pages = {Settings().top_pages}
"""


def read_settings(path: Path) -> Settings:
    """The settings of the file; the defaults where there is no such file.

    Raises ProjectError, with the file and its line, for an unknown name or a value of the wrong type. Whether
    PostgreSQL takes a pattern or an interval is asked of the server later: `place_of` finds the line for that.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return Settings()
    except UnicodeDecodeError as error:
        raise ProjectError(f"{FILE_NAME}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise ProjectError(f"{FILE_NAME}: can't be read: {error.strerror}") from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, _, place = str(error).removesuffix(")").rpartition(" (at ")
        line = place.removeprefix("line ").replace(", column ", ":")
        if place == "end of document":
            line = str(text.count("\n") + 1)
        raise ProjectError(f"{FILE_NAME}:{line}: {message}") from None

    for name in document:
        if name != "settings":
            raise ProjectError(f"{place_of(text, name)}: unknown name {name!r}; the file has [settings] only")
    table = document.get("settings", {})
    if not isinstance(table, Mapping):
        raise ProjectError(f"{place_of(text, 'settings')}: settings is no table; write [settings]")
    known: dict[str, type] = {field.name: type(field.default) for field in fields(Settings)}
    for name, value in table.items():
        where = place_of(text, "settings", name)
        if name not in known:
            raise ProjectError(f"{where}: unknown setting {name!r}; there are {', '.join(known)}")
        if type(value) is not known[name]:
            kind = "a whole number" if known[name] is int else "a text in quotes"
            raise ProjectError(f"{where}: {name} must be {kind}, found {_as_toml(value)}")
        if "\0" in str(value):
            raise ProjectError(f"{where}: {name} holds a NUL character")
    settings = Settings(**table)
    if not 1 <= settings.top_pages <= MAX_TOP_PAGES:
        where = place_of(text, "settings", "top_pages")
        raise ProjectError(f"{where}: top_pages must be from 1 to {MAX_TOP_PAGES}, found {settings.top_pages}")
    return settings


def place_of(text: str, *keys: str) -> str:
    """The file and the line, from 1, on which its text sets the value that the keys lead to."""
    lines = text.split("\n")
    start = 1
    for end in range(1, len(lines) + 1):
        try:
            value: Any = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue  # the value that begins at `start` goes on
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            break
        start = end + 1
    return f"{FILE_NAME}:{start}"


def _as_toml(value: object) -> str:
    return repr(value) if isinstance(value, str) else str(value).lower()
