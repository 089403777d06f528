-- Tokens of one word, in any case of letters, be it one token or many: FROM word_is('president'). Of "president's" too, without the 's.
-- $word text: a whole word, as a_word() has it
-- -> dataset, context, position
CREATE OR REPLACE MACRO word_is(word) AS TABLE
SELECT dataset, context, position
FROM matching(a_word(), part := '(?i)()(' || replace(regexp_escape(word), '\''', '[''’]') || ')(?:[''’]s)?$');
