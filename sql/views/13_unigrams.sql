-- How often each type of token occurs in each dataset, position 0 included.
CREATE OR REPLACE VIEW unigrams AS
SELECT
    dataset,
    token,
    text,
    occurrences,
    occurrences / sum(occurrences) OVER (PARTITION BY dataset) AS share,
    row_number() OVER (PARTITION BY dataset ORDER BY occurrences DESC, token DESC) AS rank,
    (sum(occurrences) OVER (PARTITION BY dataset ORDER BY occurrences, token) - occurrences)::BIGINT AS rarer
FROM (
    SELECT dataset, token, any_value(text) AS text, count(*) AS occurrences
    FROM tokens
    GROUP BY dataset, token
);
COMMENT ON VIEW unigrams IS 'How often each type of token occurs in each dataset, position 0 included; of types that occur equally often, the one with the lower id counts as rarer.';
COMMENT ON COLUMN unigrams.occurrences IS 'how often it occurs in the dataset [tokens]';
COMMENT ON COLUMN unigrams.share IS 'of the dataset''s tokens';
COMMENT ON COLUMN unigrams.rank IS 'among the dataset''s types, from 1, the commonest';
COMMENT ON COLUMN unigrams.rarer IS 'how many of the dataset''s tokens are of rarer types [tokens]';
