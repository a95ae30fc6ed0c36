"""Loads to compare: what one leaves and says, without what differs from load to load, and lines of every kind."""

from __future__ import annotations

import json
import random
import re
from typing import Any

from clickmart.columns import NAMES
from clickmart.load_report import LoadReport
from test_loading import query

#: A trigger that runs where a piece of a bulk load is about to be committed.
GATE = """
create function stage.gate() returns trigger language plpgsql as $$ begin {action}; return new; end $$;
create trigger gate before insert on stage.bulk_pieces for each row execute function stage.gate();
"""

RECORDS = [
    {
        "event_id": f"Ж{number}",
        "os": "x" * (number % 50),
        "referer_url_port": port,
        "page_url": 'a "quoted", \\ one',
        "no": 1,
    }
    for number, port in enumerate(["80", "80.0", "abc", "99999999999", "", None, " 7 "] * 40)
]
JSON_LINES = b"".join(json.dumps(record).encode() + b"\n" for record in RECORDS)
BROKEN = [
    b"",
    b" \t\r",
    b"nope",
    b"[1]",
    b'{"os": "\xff\xfe"}',
    b'{"os": "a\0b"}',
    b'{"os": "a\\u0000b"}',
    b'{"os": "\\ud800"}',
    b'{"os": NaN}',
    b'\xef\xbb\xbf{"os": "a mark"}',
    b'{"os": {"b": [1, 2.50, "}, {"]}, "event_id": 1e3}\r',
    b'{"geo_latitude": "1e999"}',
    b'{"event_id": 12345678901234567890123, "device_is_mobile": "maybe"}',
    b"\xef\xbb\xbf",
]


def broken_lines(count: int) -> bytes:
    """Good and broken lines in an order that is no pattern of theirs."""
    mixed = [*BROKEN * count, *JSON_LINES.splitlines() * count]
    random.Random(7).shuffle(mixed)
    return b"\n".join(mixed)


def stored(dsn: str) -> dict[str, list[tuple[Any, ...]]]:
    """All that a load leaves."""
    return {
        "events": sorted(
            query(
                dsn,
                f"select file_name, {', '.join(NAMES)} from stage.events left join stage.loads on loads.id = batch_id",
            ),
            key=repr,
        ),
        "rejects": query(
            dsn,
            "select file_name, source_file, line_number, reason, raw, raw_bytes from stage.events_rejected "
            "left join stage.loads on loads.id = batch_id order by 1, 3, 4, 5",
        ),
        "loads": query(
            dsn,
            "select file_name, checksum, size, format, rows_loaded, rows_rejected, status, header from stage.loads "
            "order by 1",
        ),
    }


def told(report: LoadReport) -> list[tuple[Any, ...]]:
    return [
        (
            file.file,
            file.status,
            file.rows_loaded,
            file.rows_rejected,
            file.unknown_columns,
            re.sub(r"(batch_id|load) \d+", r"\1 N", file.problem),
        )
        for file in report.files
    ]
