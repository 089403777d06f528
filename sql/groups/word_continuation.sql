-- Tokens that go on with a word begun in an earlier token, as "ing" or the "'t" of don't; so do those that go on with a character.
SELECT dataset, context, unnest(list_distinct(list_where(starters, mask))) AS position
FROM match_masks(a_word(), part := '(?s)(.)(.*)$')
UNION
SELECT dataset, context, position
FROM tokens
WHERE regexp_matches(text, '^<0x[89AB][0-9A-F]>') AND position > 0;
