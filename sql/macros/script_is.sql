-- Tokens that hold a letter of a script, or a byte of one: FROM script_is('Armenian').
-- $script text: the script's name in Unicode
-- -> dataset, context, position
CREATE OR REPLACE MACRO script_is(script) AS TABLE
SELECT dataset, context, position
FROM matching('\p{' || script || '}[\p{' || script || '}\p{M}]*');
