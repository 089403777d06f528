"""Commands that ask in SQL."""
