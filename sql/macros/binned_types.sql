-- Types of tokens in bins by how often they occur in their dataset: from bin 1, the rarest types, on, each bin holds about the same share of all tokens. A type lies in one bin, whole, so a bin may be empty where one type is very common.
-- $bins integer [bins]: number of bins
-- -> dataset, token
-- -> occurrences [tokens]: how often it occurs in the dataset
-- -> bin: number of the bin
CREATE OR REPLACE MACRO binned_types(bins) AS TABLE
SELECT
    dataset, token, occurrences,
    (1 + rarer * bins // sum(occurrences) OVER (PARTITION BY dataset))::BIGINT AS bin
FROM unigrams;
