-- Tokens of the rarest types of their dataset, as many types as it takes to hold a share of its tokens: FROM rarest_share(0.05). The last of these types is in it whole.
-- $least number: the share that they hold at least, from 0 to 1
-- -> dataset, context, position
CREATE OR REPLACE MACRO rarest_share(least) AS TABLE
SELECT dataset, context, position
FROM tokens
JOIN (
    SELECT dataset, token
    FROM unigrams
    QUALIFY rarer < least * sum(occurrences) OVER (PARTITION BY dataset)
) USING (dataset, token);
