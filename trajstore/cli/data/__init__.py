"""Commands on what a store holds: the store itself, datasets, models, suites, scoring and ingest."""
