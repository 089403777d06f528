-- What copying would predict: for each token whose length tokens before it occurred earlier in its context, the token that followed their last earlier occurrence. FROM copying(1) WHERE token = predicted is where copying is right. The two occurrences may overlap, as in a run of one token.
-- $length integer [tokens]: tokens that are looked for, those right before each token
-- -> dataset, context, position, token
-- -> predicted: the token that followed the last earlier occurrence
CREATE OR REPLACE MACRO copying(length) AS TABLE
SELECT dataset, context, position + length AS position, next AS token, predicted
FROM (
    SELECT
        dataset, context, position, next,
        lag(next) OVER (PARTITION BY dataset, context, span ORDER BY position) AS predicted
    FROM all_spans(length)
)
WHERE next IS NOT NULL AND predicted IS NOT NULL;
