"""The groups that the demo adds to a store, and those whose trajectories it draws."""

from __future__ import annotations

from trajstore.demo.corpus import CONTEXT

_HALF = CONTEXT // 2

GROUPS = {
    "fresh_half": f"""-- Random tokens seen for the first time: the first half of each context of repeats.
SELECT dataset, context, position FROM tokens WHERE dataset = 'repeats' AND position < {_HALF}""",
    "repeated_half": f"""-- The same random tokens again: the second half of each context of repeats.
-- Its first token is left out: nothing tells that the repeat begins.
SELECT dataset, context, position FROM tokens WHERE dataset = 'repeats' AND position > {_HALF}""",
    "answers": """-- Answers of arithmetic questions: what stands between = and the line's end.
SELECT dataset, context, position
FROM (
    SELECT *, last_value(
        CASE WHEN contains(text, '=') THEN 1 WHEN contains(text, chr(10)) THEN 0 END IGNORE NULLS
    ) OVER (
        PARTITION BY dataset, context ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS answering
    FROM tokens
    WHERE dataset = 'arithmetic'
)
WHERE answering = 1 AND NOT contains(text, chr(10))""",
}
"""Groups that the demo adds to those that come with the store."""

CURVES = ("fresh_half", "repeated_half", "answers", "sentence_start", "word_continuation", "closing_bracket")
"""Groups whose trajectories the demo draws side by side."""
