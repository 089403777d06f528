-- Tokens inside a span of 8 tokens or more that occurred earlier in the same context: all tokens of the later occurrences, the first ones too, which nothing could tell yet.
SELECT dataset, context, position
FROM in_repeated_span(8);
