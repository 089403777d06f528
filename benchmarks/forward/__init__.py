"""Passes and scoring jobs, in the forms that the benchmarks of scoring time."""
