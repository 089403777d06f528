-- Tokens of whitespace alone that hold spaces or tabs at a line's start, before its first visible character.
SELECT dataset, context, position
FROM matching('\n[ \t]+\S', part := '(\n)([ \t]+)')
SEMI JOIN (
    SELECT dataset, context, position
    FROM tokens
    WHERE regexp_full_match(text, '\s+')
) AS blank USING (dataset, context, position);
