-- Tokens with a closing bracket that closes what an earlier token of the context opened: the last bracket still open is of its kind. A closing bracket of another kind leaves that open.
SELECT dataset, context, unnest(list_distinct(list_reduce(
    list_transform(
        list_zip(regexp_extract_all(text, '[(\[{（［｛〔【《〈「『⟨⟦)\]}）］｝〕】》〉」』⟩⟧]'), list_where(holders, mask)),
        lambda bracket: {
            'open': CASE WHEN contains('([{（［｛〔【《〈「『⟨⟦', bracket[1]) THEN [{
                'closer': translate(bracket[1], '([{（［｛〔【《〈「『⟨⟦', ')]}）］｝〕】》〉」』⟩⟧'),
                'position': bracket[2]
            }] ELSE [] END,
            'closer': bracket[1],
            'closed': [bracket[2]]
        }
    ),
    lambda done, bracket: {
        'open': CASE
            WHEN len(bracket.open) = 1 THEN list_concat(done.open, bracket.open)
            WHEN done.open[-1].closer = bracket.closer THEN list_resize(done.open, len(done.open) - 1)
            ELSE done.open
        END,
        'closer': NULL,
        'closed': CASE
            WHEN len(bracket.open) = 0 AND done.open[-1].closer = bracket.closer
                AND done.open[-1].position < bracket.closed[1] THEN list_concat(done.closed, bracket.closed)
            ELSE done.closed
        END
    },
    {'open': [], 'closer': NULL, 'closed': []}
).closed)) AS position
FROM match_masks('[(\[{（［｛〔【《〈「『⟨⟦)\]}）］｝〕】》〉」』⟩⟧]')
WHERE list_contains(mask, true);
