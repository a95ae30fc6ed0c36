"""Mutants of the project's SQL, and what becomes of them: `make mutants`, docs/reliability.md."""
