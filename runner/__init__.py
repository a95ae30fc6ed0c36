"""clickmart: files of page events in, exact clickstream marts out, in PostgreSQL."""

from .version import __version__

__all__ = ["__version__"]
