"""The bench: each figure of clickmart beside a floor that the same server gives in the same run (bench/README.md)."""
