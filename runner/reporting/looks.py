"""How charts look: colours, names of a length that fits, and how values are written. On the page, and on an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

Spec = dict[str, Any]

#: By place of the series, the last one for all that have none of their own. Each has a contrast of 3 and more to the
#: background, and is told apart from the others by eyes that lack a colour as well.
LIGHT: Final = (
    "#2f6fde", "#cb8000", "#12a567", "#c273ca", "#fc5562", "#6b2175", "#535911", "#2a33a2", "#792237", "#8b9098",
)  # fmt: skip
DARK: Final = (
    "#5b9bff", "#e39b1f", "#2fc483", "#cc74d2", "#ff6f6f", "#f2d9ff", "#d3da6a", "#7f7bff", "#ffbfa8", "#868e99",
)  # fmt: skip

#: Series with a colour of their own; all after them share one more.
OWN_COLOURS: Final = len(LIGHT) - 1
#: Characters of a name on an axis, and on a narrow one.
LABEL: Final = 34
NARROW_LABEL: Final = 19


@dataclass(frozen=True, slots=True)
class Look:
    """Where a spec is drawn. On the page colours are CSS variables, and the page's own function writes the values."""

    on_page: bool

    def colour(self, name: str) -> str:
        fixed = {"text": "#1c2129", "muted": "#5c6470", "line": "#e3e6ea", "back": "#ffffff"}
        return f"var(--{name})" if self.on_page else fixed[name]

    @property
    def palette(self) -> list[str]:
        return [f"var(--c{place})" for place in range(len(LIGHT))] if self.on_page else list(LIGHT)

    def shown(self, value: str, said: str | None, *, axis: bool = False) -> str:
        """The expression of a text for the value of an expression."""
        if self.on_page:
            kind = said if said in ("percent", "duration", "bytes", "date", "hour") else "number"
            return f"shown({value}, '{'compact' if axis and kind == 'number' else kind}')"
        if said == "percent":
            return f"format({value}, '.1~%')"
        if said == "duration":
            hours, minutes = f"format({value} / 3600, '.1~f') + ' h'", f"format({value} / 60, '.1~f') + ' min'"
            return f"{value} >= 3600 ? {hours} : {value} >= 60 ? {minutes} : format({value}, '.1~f') + ' s'"
        if said == "bytes":
            return f"format({value}, '.3~s') + 'B'"
        whole = f"format({value}, ',.4~f')"
        return f"abs({value}) >= 10000 ? format({value}, '.3~s') : {whole}" if axis else whole

    @property
    def config(self) -> Spec:
        """Vega-Lite's configuration."""
        font = "system-ui, sans-serif" if self.on_page else "sans-serif"
        muted, line = self.colour("muted"), self.colour("line")
        return {
            "font": font,
            "background": None if self.on_page else self.colour("back"),
            "aria": False,
            "padding": 4 if self.on_page else 20,
            "view": {"stroke": None},
            "title": {"color": muted, "fontSize": 12, "fontWeight": "normal", "offset": 10},
            "axis": {
                "labelColor": muted,
                "titleColor": muted,
                "labelFontSize": 12,
                "titleFontSize": 12,
                "titleFontWeight": "normal",
                "gridColor": line,
                "domainColor": line,
                "tickColor": line,
                "labelPadding": 6,
            },
            "axisY": {"domain": False, "ticks": False},
            "text": {"fontSize": 12},
            "legend": {"labelColor": muted, "labelFontSize": 12, "symbolType": "square", "labelOffset": 6},
        }


PAGE: Final = Look(on_page=True)
IMAGE: Final = Look(on_page=False)


def legend_names(names: Sequence[str]) -> list[str]:
    """The names of the colours: where more are than have one of their own, how many share the last."""
    own = [short(name) for name in names[:OWN_COLOURS]]
    rest = names[OWN_COLOURS:]
    if not rest:
        return own
    return [*own, short(rest[0]) if len(rest) == 1 else f"{len(rest)} others"]


def short(text: str, length: int = LABEL) -> str:
    """A label for an axis: a link without what all links have, and a long text without its middle."""
    bare = text.partition("://")[2] if text.startswith(("http://", "https://")) else text
    text = unquote(bare).rstrip("/") or text
    return text if len(text) <= length else f"{text[: length // 2 - 1]}…{text[-length // 2 :]}"
