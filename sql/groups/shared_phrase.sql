-- Tokens inside a span of 16 tokens or more that occurs in two or more contexts of the dataset, each time that it occurs: phrases that a model may know by heart.
SELECT dataset, context, position
FROM in_shared_span(16, 2);
