-- Tokens made of Unicode punctuation or symbols alone, with or without whitespace around them.
SELECT dataset, context, position
FROM tokens
WHERE regexp_full_match(text, '\s*[\p{P}\p{S}]+\s*')
    AND NOT regexp_full_match(text, '.*<0x[0-9A-F]{2}>.*', 's');
