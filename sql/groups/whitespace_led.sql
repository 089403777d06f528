-- Words that start with a space: a space, then a letter, a digit or another visible character.
SELECT dataset, context, position
FROM tokens
WHERE regexp_matches(text, '^ \S');
