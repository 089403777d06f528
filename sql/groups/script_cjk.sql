-- Tokens that hold a letter of Chinese, Japanese or Korean (Han, Hiragana, Katakana, Bopomofo, Hangul), or a byte of one.
SELECT dataset, context, position
FROM matching(
    '[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Hangul}ー]'
    '[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Hangul}ー\p{M}]*'
);
