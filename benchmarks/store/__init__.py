"""Costs of a store beside its peers: the rows of benchmarks.run by subject."""
