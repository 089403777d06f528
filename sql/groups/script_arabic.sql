-- Tokens that hold a letter of the Arabic script, or a byte of one.
SELECT dataset, context, position
FROM script_is('Arabic');
