-- Tokens of the k types that occur most often in their dataset: FROM top_tokens(100).
-- $k integer: number of types
-- -> dataset, context, position
CREATE OR REPLACE MACRO top_tokens(k) AS TABLE
SELECT dataset, context, position
FROM tokens
JOIN (SELECT dataset, token FROM unigrams WHERE rank <= k) USING (dataset, token);
