"""Commands that run an analysis, and the findings they keep."""
