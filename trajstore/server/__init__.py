"""The page: an HTTP server over one store, read-only, for people at the machine that runs it."""
