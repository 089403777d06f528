-- Tokens of an acronym in brackets whose letters are the initials of the words before it: WHO in "World Health Organization (WHO". Small words (of, the, and) may go without a letter; the s of a plural is not part of it.
SELECT dataset, context, unnest(found_tokens(flatten(list_transform(
    list_transform(
        string_split(
            regexp_replace(
                text, '[^()]*\(\p{L}*\p{Lu}\p{L}*\p{Lu}\p{L}*', chr(64976) || '\0' || chr(64976), 'g'
            ),
            chr(64976)
        ),
        lambda piece: {
            'words': split_part(piece, '(', 1),
            'acronym': regexp_replace(split_part(piece, '(', 2), '(\p{Lu})s$', '\1'),
            'length': length(piece)
        }
    ),
    lambda found, number: CASE
        WHEN number % 2 = 1 OR length(found.acronym) > 12 THEN list_resize([false], found.length, false)
        WHEN regexp_matches(
            found.words,
            '(?i)(?:^|[\s,/\-–.;:"“''‘])' || array_to_string(
                list_transform(string_split(found.acronym, ''), lambda letter: letter || '[^\s,/]*'),
                '[\s,/\-–]+(?:(?:a|an|and|at|by|de|der|des|di|du|for|from|in|la|le|of|on|or|the|to|und|with|&)[\s,/\-–]+)*'
            ) || '\s*$'
        ) THEN list_resize(
            list_resize(
                list_resize([false], length(found.words) + 1, false),
                length(found.words) + 1 + length(found.acronym),
                true
            ),
            found.length,
            false
        )
        ELSE list_resize([false], found.length, false)
    END
)), holders, byte_holders, widths)) AS position
FROM context_texts;
