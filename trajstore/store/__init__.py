"""The store: the only code that touches its files and the only one that opens DuckDB."""
