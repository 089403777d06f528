-- Tokens that hold Japanese kana (Hiragana or Katakana), or a byte of one.
SELECT dataset, context, position
FROM matching('[\p{Hiragana}\p{Katakana}ー][\p{Hiragana}\p{Katakana}ー\p{M}]*');
