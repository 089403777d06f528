"""Defaults that arguments of the library and options of the command line share.

Loads nothing, so that the command line can show them at once.
"""

from __future__ import annotations

LEVEL = 0.95
"""Share of intervals that should cover, by default."""
RESAMPLES = 1000
"""Of the bootstrap."""

COMPONENTS = 10
"""Principal components that are kept."""
SPARSE_ALPHA = 5.0
"""The price of a loading of a sparse component, nats."""
RIDGE_ALPHA = 0.01
"""Ridge of the scores of sparse components."""
MAX_ITER = 1000
"""Iterations of a descent to sparse components, at most."""
TOL = 1e-6
"""A descent ends once the objective falls by less than this share."""
RESTARTS = 1
"""Descents to sparse components."""
SPARSE_SEED = 42
"""Of the descents' starts."""

CHANCE = 0.05
"""Highest chance, by default, that noise between checkpoints alone makes a spike in a curve."""
RATE = 0.001
"""Share of tokens that noise alone may put into a class of a spike's tokens."""
SPIKE_PREFIX = "spike"
"""Of the names of spikes' groups, before the step."""

LEAST = 0.1
"""Losses below this, in nats, count as this where a difference is divided by them."""
OUTLIERS = 0.01
"""Share of the tokens that are outliers of two models: those with the largest differences."""
CHANGES = 5
"""Change points looked for in a curve, at most."""
APART = 0.3
"""Root mean square distance of the measures of two heads of a cluster, at most."""
MATCH_RATIO = 0.8
"""Distance of two matched heads over that of either to the nearest other one, above which the match is ambiguous."""
LATE = "position_is(500)"
"""The in-context-learning score is the mean loss here …"""
EARLY = "position_is(50)"
"""… less that here."""

EXAMPLES = 10
"""Tokens of a group that are shown in their context."""
EXAMPLE_WIDTH = 12
"""Tokens shown on either side of one."""

CONTEXTS = 512
"""Contexts that are drawn for a dataset."""
LENGTH = 512
"""Tokens of a context, at most."""
TEXT_COLUMN = "text"
"""The column of a table that holds texts."""

REPORT_CONTEXTS = 8
"""Contexts of each dataset that a report shows token by token."""
REPORT_TITLE = "Losses through training"
