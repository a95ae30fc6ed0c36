"""The columns of stage.events as the source names them: one list for every loader.

The same list stands in migrations/0001_stage.sql as the table; a test holds the two together.
"""

from __future__ import annotations

from typing import Final

#: name -> PostgreSQL type, in the order of the table (docs/meaning.md 1), without `id` before and `batch_id` behind.
COLUMNS: Final[dict[str, str]] = {
    "event_id": "varchar",
    "event_timestamp": "varchar",
    "event_type": "varchar",
    "page_url": "varchar",
    "page_url_path": "varchar",
    "referer_url": "varchar",
    "referer_url_scheme": "varchar",
    "referer_url_port": "int4",
    "referer_medium": "varchar",
    "utm_medium": "varchar",
    "utm_source": "varchar",
    "utm_content": "varchar",
    "utm_campaign": "varchar",
    "click_id": "varchar",
    "geo_latitude": "float8",
    "geo_longitude": "float8",
    "geo_country": "varchar",
    "geo_timezone": "varchar",
    "geo_region_name": "varchar",
    "ip_address": "varchar",
    "browser_name": "varchar",
    "browser_user_agent": "varchar",
    "browser_language": "varchar",
    "os": "varchar",
    "os_name": "varchar",
    "os_timezone": "varchar",
    "device_type": "varchar",
    "device_is_mobile": "boolean",
    "user_custom_id": "varchar",
    "user_domain_id": "varchar",
}

NAMES: Final = tuple(COLUMNS)
INDEX: Final = {name: index for index, name in enumerate(NAMES)}
#: positions and types of the columns that are not text
TYPED: Final = tuple((index, COLUMNS[name]) for name, index in INDEX.items() if COLUMNS[name] != "varchar")
