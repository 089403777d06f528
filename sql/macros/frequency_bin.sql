-- Tokens of one bin of binned_types: FROM frequency_bin(1, 10) has the rarest types, which hold about a tenth of the tokens of each dataset.
-- $nth integer: number of the bin, from 1, the rarest types
-- $bins integer [bins]: number of bins
-- -> dataset, context, position
CREATE OR REPLACE MACRO frequency_bin(nth, bins) AS TABLE
SELECT dataset, context, position
FROM tokens
JOIN (SELECT dataset, token FROM binned_types(bins) WHERE bin = nth) USING (dataset, token);
