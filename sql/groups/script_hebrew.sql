-- Tokens that hold a letter of the Hebrew script, or a byte of one.
SELECT dataset, context, position
FROM script_is('Hebrew');
