"""The filters of clickmart's templates, for sqlfluff."""

from clickmart.templates import literal

SQLFLUFF_JINJA_FILTERS = {"literal": literal}
