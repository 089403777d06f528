"""The version of this trajstore."""

__version__ = "0.1.0"
