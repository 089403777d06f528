-- Tokens that hold a Chinese character (Han), or a byte of one.
SELECT dataset, context, position
FROM script_is('Han');
