-- Every context's text as one string, in which patterns are looked for, since a word may be spread over tokens.
-- In pieces, each byte of no whole character is one character (U+10F0E2 for E2), so that lengths tell where a token is;
-- those that make a character are put together at the end. U+FDD0 marks what a pattern finds, here and in macros.
CREATE OR REPLACE VIEW context_texts AS
SELECT
    dataset,
    context,
    CASE WHEN len(parts) = 1 THEN parts[1] ELSE array_to_string(
        list_transform(parts, lambda part, number: CASE
            WHEN number % 2 = 1 THEN part
            ELSE decode(unhex(array_to_string(
                list_transform(string_split(part, ''), lambda stray: hex(unicode(stray) & 255)), ''
            )))
        END), ''
    ) END AS text,
    CASE WHEN len(parts) = 1 THEN all_holders ELSE list_where(all_holders, firsts) END AS holders,
    CASE WHEN len(parts) = 1 THEN all_starters ELSE list_where(all_starters, firsts) END AS starters,
    CASE WHEN len(parts) > 1 THEN flatten(list_transform(parts, lambda part, number: CASE
        WHEN number % 2 = 1 THEN list_resize([1], length(part), 1)
        ELSE [length(part)::INTEGER]
    END)) END AS widths,
    CASE WHEN len(parts) > 1 THEN all_holders END AS byte_holders
FROM (
    SELECT
        dataset,
        context,
        parts,
        flatten(list_transform(
            lengths, lambda size, number: list_resize([(number - 1)::INTEGER], size, (number - 1)::INTEGER)
        )) AS all_holders,
        flatten(list_transform(
            lengths, lambda size, number: list_resize([(number - 1)::INTEGER], size, NULL)
        )) AS all_starters,
        flatten(list_transform(
            parts, lambda part, number: list_resize([true], length(part), number % 2 = 1)
        )) AS firsts
    FROM (
        SELECT
            dataset,
            context,
            string_split(regexp_replace(
                replace(array_to_string(pieces, ''), chr(64976), '?'),
                '[\x{10F0C2}-\x{10F0DF}][\x{10F080}-\x{10F0BF}]'
                '|(?:\x{10F0E0}[\x{10F0A0}-\x{10F0BF}]|\x{10F0ED}[\x{10F080}-\x{10F09F}]'
                '|[\x{10F0E1}-\x{10F0EC}\x{10F0EE}\x{10F0EF}][\x{10F080}-\x{10F0BF}])[\x{10F080}-\x{10F0BF}]'
                '|(?:\x{10F0F0}[\x{10F090}-\x{10F0BF}]|\x{10F0F4}[\x{10F080}-\x{10F08F}]'
                '|[\x{10F0F1}-\x{10F0F3}][\x{10F080}-\x{10F0BF}])[\x{10F080}-\x{10F0BF}]{2}',
                chr(64976) || '\0' || chr(64976),
                'g'
            ), chr(64976)) AS parts,
            list_transform(pieces, lambda piece: length(piece)) AS lengths
        FROM (
            SELECT dataset, context, list_transform(texts, lambda piece: CASE
                WHEN NOT contains(piece, '<0x') THEN piece
                ELSE array_to_string(
                    list_transform(string_split(piece, '<0x'), lambda part, number: CASE
                        WHEN number = 1 THEN part
                        WHEN regexp_matches(part, '^[89A-F][0-9A-F]>')
                            THEN chr(('0x10F0' || left(part, 2))::INTEGER) || substr(part, 4)
                        ELSE '<0x' || part
                    END), ''
                )
            END) AS pieces
            FROM (
                SELECT dataset, context, list(text ORDER BY position) AS texts
                FROM tokens
                GROUP BY dataset, context
            )
        )
    )
);
COMMENT ON VIEW context_texts IS 'Every context''s text as one string, and the token of each character: where patterns are looked for.';
COMMENT ON COLUMN context_texts.text IS 'the texts of the tokens, joined; a byte of no character is one character (U+10F0E2 for E2)';
COMMENT ON COLUMN context_texts.holders IS 'for each character of text, the position of the token that holds it, or its first byte';
COMMENT ON COLUMN context_texts.starters IS 'for each character of text, the position of the token that begins with it; null if none does';
COMMENT ON COLUMN context_texts.widths IS 'for each character of text 1, or the number of its bytes if these are in tokens of their own; null where all are 1';
COMMENT ON COLUMN context_texts.byte_holders IS 'holders of those bytes: widths tells how many for each character; null where all are 1';
