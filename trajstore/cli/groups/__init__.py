"""Commands on token groups."""
