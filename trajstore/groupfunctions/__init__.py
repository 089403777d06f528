"""Group functions that come with trajstore, for `trajstore group add NAME --python MODULE:FUNCTION`.

A group function takes the tokens of one context, a Polars frame with one row a token in order of position (position 0
included) and the columns dataset, context, position, token, text, item, item_position, role. It returns a boolean mask
of the same length: which of these tokens are in the group.
"""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
