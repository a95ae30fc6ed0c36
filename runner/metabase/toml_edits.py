"""Changes in the text of a dashboard.toml: what differs is set, and every other byte stays as it was written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ..errors import MetabaseError

try:
    import tomlkit
    from tomlkit.items import AoT, InlineTable
except ModuleNotFoundError:
    raise MetabaseError(
        "clickmart metabase pull needs tomlkit; install it by: pip install 'clickmart[metabase]'"
    ) from None

Table = dict[str, Any]
#: What has a header of its own, as [cards.NAME].
_KINDS: Final = ("filters", "cards")
#: A header right below a line of another table.
_HUDDLED: Final = re.compile(r"^([^#\n][^\n]*)\n(?=\[)", re.MULTILINE)
_HEADER: Final = re.compile(r"^[ \t]*\[\[?[ \t]*([\w-]+)", re.MULTILINE)


def edited(text: str, ours: Table, theirs: Table) -> str:
    """The text of a file that says `ours`, changed to say `theirs`."""
    document = tomlkit.parse(text)
    new: list[tuple[str, str]] = []
    _apply(document, ours, theirs, new)
    before, text = text, tomlkit.dumps(document)
    if not _HUDDLED.search(before):
        # A new line at the end of a table takes the place of the empty one above the next header.
        text = _HUDDLED.sub(r"\1\n\n", text)
    if not before.endswith("\n\n"):
        # What was the last table leaves the empty line that was above it.
        text = re.sub(r"\n{2,}\Z", "\n", text)
    for kind, table in new:
        text = _inserted(text, kind, table)
    return text


def _apply(target: Any, ours: Mapping[str, Any], theirs: Mapping[str, Any], new: list[tuple[str, str]]) -> None:
    """Sets what differs; tables with a header that aren't there yet are left to `new`, as their kind and their text."""
    for name in dict.fromkeys([*ours, *theirs]):
        before, after = ours.get(name), theirs.get(name)
        if before == after:
            continue
        if name == "texts":
            _apply_texts(target, before or [], after or [], new)
        elif name in _KINDS:
            _apply_tables(target, name, before or {}, after or {}, new)
        elif after is None:
            target.pop(name, None)
        elif isinstance(before, Mapping) and isinstance(after, Mapping) and name in target:
            inner = target[name]
            if isinstance(inner, InlineTable) and before.keys() != after.keys():
                kept = {key: value for key, value in inner.unwrap().items() if key in after or key not in before}
                target[name] = _item({**kept, **after})
            else:
                _apply(inner, before, after, new)
        elif name == "columns" and not isinstance(target, InlineTable):
            target[name] = _table(after)
        else:
            target[name] = _item(after)


def _apply_tables(target: Any, kind: str, ours: Table, theirs: Table, new: list[tuple[str, str]]) -> None:
    for name in dict.fromkeys([*ours, *theirs]):
        if name not in theirs:
            del target[kind][name]
        elif name not in ours:
            new.append((kind, _text_of({kind: {name: theirs[name]}})))
        else:
            _apply(target[kind][name], ours[name], theirs[name], new)


def _apply_texts(target: Any, ours: list[Table], theirs: list[Table], new: list[tuple[str, str]]) -> None:
    """The texts have no names: each of ours is the same one of theirs, else the one of that text, or at that place."""
    left = list(theirs)
    pairs: list[Table | None] = [None] * len(ours)
    for same in (_is_same, _has_same_text, _has_same_place):
        for number, text in enumerate(ours):
            hit = next((other for other in left if pairs[number] is None and same(text, other)), None)
            if hit is not None:
                pairs[number] = hit
                left.remove(hit)
    for number in reversed(range(len(ours))):
        pair = pairs[number]
        if pair is None:
            del target["texts"][number]
        else:
            _apply(target["texts"][number], ours[number], pair, new)
    if ours and not target["texts"]:
        del target["texts"]
    if left and isinstance(target.get("texts"), tomlkit.items.Array):
        target["texts"].extend(map(_item, left))
    else:
        new += [("texts", _text_of({"texts": [text]})) for text in left]


def _is_same(one: Table, other: Table) -> bool:
    return one == other


def _has_same_text(one: Table, other: Table) -> bool:
    return bool(one["text"] == other["text"])


def _has_same_place(one: Table, other: Table) -> bool:
    return all(one["place"][key] == other["place"][key] for key in ("column", "row"))


def _inserted(text: str, kind: str, table: str) -> str:
    """The text with a new table behind the last of its kind; comments above the next table stay with that one."""
    headers = list(_HEADER.finditer(text))
    last = max((number for number, header in enumerate(headers) if header[1] == kind), default=len(headers) - 1)
    end = headers[last + 1].start() if last + 1 < len(headers) else len(text)
    lines = text[:end].splitlines(keepends=True)
    while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    above = "".join(lines)
    below = text[len(above) :].lstrip("\n") if above else text
    above += "" if above.endswith("\n") or not above else "\n"
    return f"{above}\n{table}" + (f"\n{below}" if below else "")


def _text_of(table: Table) -> str:
    """The text of a table with its header."""
    document = tomlkit.document()
    for name, value in table.items():
        if isinstance(value, list):
            array: AoT = tomlkit.aot()
            for row in value:
                array.append(_table(row))
            document[name] = array
        else:
            document[name] = tomlkit.table(is_super_table=True)
            for key, inner in value.items():
                document[name][key] = _table(inner)
    # A header below another one has an empty line above it.
    return _HUDDLED.sub(r"\1\n\n", tomlkit.dumps(document)).strip("\n") + "\n"


def _table(value: Mapping[str, Any]) -> Any:
    table = tomlkit.table()
    # What has a header comes last: whatever followed would belong to it.
    for name, inner in sorted(value.items(), key=lambda item: item[0] == "columns"):
        table[name] = _table(inner) if name == "columns" else _item(inner)
    return table


def _item(value: Any) -> Any:
    """The value as it is written in one line."""
    if not isinstance(value, Mapping):
        return value
    return tomlkit.parse(f"value = {_line(value)}")["value"]


def _line(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = [f"{tomlkit.key(name).as_string()} = {_line(inner)}" for name, inner in value.items()]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_line, value))}]"
    return str(tomlkit.item(value).as_string())
