-- Tokens that hold a letter of the Latin script, or a byte of one.
SELECT dataset, context, position
FROM script_is('Latin');
