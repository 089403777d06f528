"""Panes of the page: each module's `routes` gives its endpoints, each a function of a request's `Ask`."""
