-- Tokens of words of two capital letters or more, digits among them, and no others (NASA, H2O); of a plural, all but the s (GPUs). Not those of a headline: three words or more in capitals with spaces alone between them, with what is joined to them by punctuation, and a line without other letters in which two stand beside each other.
SELECT dataset, context, position
FROM matching(
    '(?m:^)[^\p{Ll}\p{Lt}\p{Lm}\p{Lo}\n]*\p{Lu}[\p{Lu}\p{N}\p{M}''’&/\-]+[ \t]+\p{Lu}[^\p{Ll}\p{Lt}\p{Lm}\p{Lo}\n]*(?m:$)'
    '|(?:\p{Lu}[\p{Lu}\p{N}\p{M}''’&/\-]*[,;:.()"“”]*[ \t]+[("“]*)*'
    '\p{Lu}[\p{Lu}\p{N}\p{M}''’&/\-]*(?:[ \t]+\p{Lu}[\p{Lu}\p{N}\p{M}''’&/\-]*){2}'
    '(?:[,;:.()"“”]*[ \t]+[("“]*\p{Lu}[\p{Lu}\p{N}\p{M}''’&/\-]*)*(?:[^\p{L}\p{M}\p{N}_]|$)'
    '|' || a_word(),
    part := '()(\p{Lu}[\p{N}\p{M}]*\p{Lu}[\p{Lu}\p{N}\p{M}]*)(?:[''’]?s)?$'
);
