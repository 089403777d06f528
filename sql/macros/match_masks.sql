-- Which characters of each context's text lie in matches of a regular expression (RE2): what matching() and other groups over text stand on.
-- $pattern text: what to look for in the text of each context
-- $part text = null: where only a part of each match is meant, a pattern of the match from its start with two groups: what stands before that part, and the part; matches that it does not fit are passed over
-- -> dataset, context
-- -> text, holders, starters, widths, byte_holders: as in context_texts
-- -> mask: for each character of text, whether it is found
CREATE OR REPLACE MACRO match_masks(pattern, part := NULL) AS TABLE
SELECT dataset, context, text, holders, starters, widths, byte_holders,
    flatten(list_transform(
        string_split(regexp_replace(text, pattern, chr(64976) || '\0' || chr(64976), 'g'), chr(64976)),
        lambda piece, number: CASE
            WHEN number % 2 = 1 THEN list_resize([false], length(piece), false)
            WHEN part IS NULL THEN list_resize([true], length(piece), true)
            ELSE list_resize(
                list_resize(
                    list_resize([false], length(regexp_extract(piece, '^(?:' || part || ')', 1)), false),
                    length(regexp_extract(piece, '^(?:' || part || ')', 1))
                        + length(regexp_extract(piece, '^(?:' || part || ')', 2)),
                    true
                ),
                length(piece),
                false
            )
        END
    )) AS mask
FROM context_texts;
