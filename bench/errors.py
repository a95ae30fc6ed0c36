"""What ends the bench, or one of its figures, with one message."""


class BenchError(Exception):
    """Says where, what was found and what to do."""


class NotRunError(Exception):
    """A peer that can't run here; the message says why."""
