"""`python -m clickmart`."""

from .cli import main

main(prog_name="clickmart")
