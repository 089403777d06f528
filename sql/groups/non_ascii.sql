-- Tokens that hold a character beyond ASCII, or a byte of one.
SELECT dataset, context, position
FROM tokens
WHERE regexp_matches(text, '[^\x00-\x7F]|<0x[89A-F][0-9A-F]>');
