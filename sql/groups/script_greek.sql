-- Tokens that hold a letter of the Greek script, or a byte of one.
SELECT dataset, context, position
FROM script_is('Greek');
