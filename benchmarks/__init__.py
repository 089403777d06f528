"""Benchmarks: what the store costs beside named peers, in one run and one table (python -m benchmarks.run)."""
