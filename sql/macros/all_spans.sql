-- Every span of a number of tokens in a row, in each context: what repetition is looked for in. Spans are compared by 64-bit hashes; that any two of ten million different ones have the same is a chance of three in a million.
-- $length integer [tokens]: tokens of a span
-- -> dataset, context
-- -> position: of the span's first token
-- -> span: a hash of the span's tokens, the same for the same tokens
-- -> next: the token after the span; null at the end of the context
CREATE OR REPLACE MACRO all_spans(length) AS TABLE
SELECT
    dataset,
    context,
    unnest(range(len(hashes)))::INTEGER AS position,
    unnest(hashes) AS span,
    unnest(list_resize(ids[length + 1:], len(hashes))) AS next
FROM (
    SELECT dataset, context, ids, list_reduce(
        -- Spans of 2, 4, 8, … tokens are two halves side by side; the last step has them overlap where length is no such number.
        list_transform(
            list_filter(
                list_append(
                    list_transform(range(31), lambda power: CASE WHEN 2 << power <= length THEN 1 << power END),
                    length - (1 << floor(log2(greatest(length, 1)))::INTEGER)
                ),
                lambda apart: apart > 0
            ),
            lambda apart: {'hashes': []::UBIGINT[], 'apart': apart}
        ),
        lambda done, step: {
            'hashes': list_transform(
                list_zip(done.hashes, done.hashes[step.apart + 1:], true), lambda halves: hash(halves[1], halves[2])
            ),
            'apart': step.apart
        },
        {'hashes': list_transform(ids, lambda id: hash(id)), 'apart': 0::BIGINT}
    ).hashes AS hashes
    FROM (
        SELECT dataset, context, list(token ORDER BY position) AS ids
        FROM tokens
        WHERE length > 0
        GROUP BY dataset, context
    )
);
