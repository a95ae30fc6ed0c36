"""The little of Markdown that stands between cards, as HTML: paragraphs, lists, bold, italics, code and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from markupsafe import Markup, escape

_LIST: Final = re.compile(r"[ \t]*[-*+][ \t]+")
_HEADING: Final = re.compile(r"#{1,6}[ \t]+")
_INLINE: Final = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\[(?P<label>[^\]]+)\]\((?P<url>[Hh][Tt][Tt][Pp][Ss]?://[^\s)]+)\)"
    r"|\*\*(?P<strong>\S(?:.*?\S)?)\*\*"
    r"|(?<![\w*])\*(?P<em>\S(?:.*?\S)?)\*(?![\w*])"
)


def html_of(text: str) -> Markup:
    """The text as HTML. HTML in it is text."""
    return Markup("\n").join(_block(block) for block in re.split(r"\n[ \t]*\n", text.strip()) if block.strip())


def _block(block: str) -> Markup:
    lines = block.strip().split("\n")
    if all(_LIST.match(line) for line in lines):
        items = (Markup("<li>{}</li>").format(_line(_LIST.sub("", line, count=1))) for line in lines)
        return Markup("<ul>{}</ul>").format(Markup("").join(items))
    if len(lines) == 1 and _HEADING.match(lines[0]):
        return Markup("<p><strong>{}</strong></p>").format(_line(_HEADING.sub("", lines[0], count=1)))
    return Markup("<p>{}</p>").format(_line(" ".join(line.strip() for line in lines)))


def _line(text: str) -> Markup:
    return Markup("").join(_pieces(text))


def _pieces(text: str) -> Iterator[Markup]:
    end = 0
    for found in _INLINE.finditer(text):
        yield escape(text[end : found.start()])
        end = found.end()
        if found["url"]:
            link = Markup('<a rel="noopener noreferrer" href="{}">{}</a>')
            yield link.format(found["url"], found["label"])
        elif found["code"]:
            yield Markup("<code>{}</code>").format(found["code"])
        else:
            tag = Markup("<strong>{}</strong>") if found["strong"] else Markup("<em>{}</em>")
            yield tag.format(_line(found["strong"] or found["em"]))
    yield escape(text[end:])
