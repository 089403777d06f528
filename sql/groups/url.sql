-- Tokens of URLs: scheme:// or www. and what follows without spaces, quotation marks or brackets (but for pairs of round ones), less the punctuation after it.
SELECT dataset, context, position
FROM matching(
    '(?i)\b(?:[a-z][a-z0-9+.\-]*://|www\.)'
    '(?:[^\s<>()\[\]{}|\\^`"''“”‘’«»。，、；：「」『』【】（）]|\([^\s<>()"]*\))*'
    '(?:[^\s<>()\[\]{}|\\^`"''“”‘’«»。，、；：「」『』【】（）.,;:!?*…]|\([^\s<>()"]*\))'
);
