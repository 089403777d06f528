-- Tokens of words of two capital letters or more, digits among them, and no others (NASA, H2O); of a plural, all but the s (GPUs).
SELECT dataset, context, position
FROM matching(a_word(), part := '()(\p{Lu}[\p{N}\p{M}]*\p{Lu}[\p{Lu}\p{N}\p{M}]*)(?:[''’]?s)?$');
