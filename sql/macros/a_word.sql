-- The regular expression of a word: letters, digits and underscores, with apostrophes between letters (don't); in scripts that are written without spaces, one character.
CREATE OR REPLACE MACRO a_word() AS
    '(?:[^\P{L}\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]|[\p{M}\p{N}_])+(?:[''’]\p{L}[\p{L}\p{M}]*)*'
    '|\p{L}\p{M}*';
