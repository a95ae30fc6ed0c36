"""The settings of a project: what templates see as `settings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from .errors import ProjectError
from .toml_file import read_toml

FILE_NAME: Final = "clickmart.toml"
MAX_TOP_PAGES: Final = 1_000_000
PATTERNS: Final = ("product", "cart", "payment", "confirmation")


@dataclass(frozen=True, slots=True)
class Settings:
    """Values of the `[settings]` table of clickmart.toml; the defaults are those of docs/meaning.md.

    product, cart, payment, confirmation: regular expressions of PostgreSQL on the page path, the first that matches
    is the view's step. purchase_window, session_gap: intervals of PostgreSQL. top_pages: rows of cdm.top_pages.
    """

    product: str = "^product_"
    cart: str = "^cart(/|$)"
    payment: str = "^payment(/|$)"
    confirmation: str = "^confirmation(/|$)"
    purchase_window: str = "1 day"
    session_gap: str = "30 minutes"
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

# A user's silence longer than that ends a session: an interval of PostgreSQL.
session_gap = "{Settings().session_gap}"

# Rows of cdm.top_pages.
top_pages = {Settings().top_pages}
"""


def read_settings(path: Path) -> Settings:
    """The settings of the file; the defaults where there is no such file.

    Raises ProjectError, with the file and its line, for an unknown name or a value of the wrong type. Whether
    PostgreSQL takes a pattern or an interval is asked of the server later.
    """
    file = read_toml(path, FILE_NAME)
    if file is None:
        return Settings()
    for name in file.document:
        if name != "settings":
            raise ProjectError(f"{file.place_of(name)}: unknown name {name!r}; the file has [settings] only")
    table = file.document.get("settings", {})
    if not isinstance(table, Mapping):
        raise ProjectError(f"{file.place_of('settings')}: settings is no table; write [settings]")
    known: dict[str, type] = {field.name: type(field.default) for field in fields(Settings)}
    for name, value in table.items():
        where = file.place_of("settings", name)
        if name not in known:
            raise ProjectError(f"{where}: unknown setting {name!r}; there are {', '.join(known)}")
        if type(value) is not known[name]:
            kind = "a whole number" if known[name] is int else "a text in quotes"
            raise ProjectError(f"{where}: {name} must be {kind}, found {_as_toml(value)}")
        if "\0" in str(value):
            raise ProjectError(f"{where}: {name} holds a NUL character")
    settings = Settings(**table)
    if not 1 <= settings.top_pages <= MAX_TOP_PAGES:
        where = file.place_of("settings", "top_pages")
        raise ProjectError(f"{where}: top_pages must be from 1 to {MAX_TOP_PAGES}, found {settings.top_pages}")
    return settings


def _as_toml(value: object) -> str:
    return repr(value) if isinstance(value, str) else str(value).lower()
