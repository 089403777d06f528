-- Tokens of numbers in digits (0 to 9), with sign, thousands (1,234,567), decimals (-0.5) and exponent (1e-9); not digits that are part of a word (x2, 5km) or of a version (1.2.3). A sign right after a word, number or bracket is an operator.
SELECT dataset, context, position
FROM matching(
    '[+\-−]?(?:'
    '(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][+\-−]?[0-9]+[\p{L}\p{M}\p{N}_]*'
    '|[0-9]{1,3}(?:,[0-9]{3})+\b(?:\.[0-9]+)*[\p{L}\p{M}\p{N}_]*'
    '|\.?[\p{L}\p{M}\p{N}_]+(?:\.[0-9]+[\p{L}\p{M}\p{N}_]*)*'
    ')[+\-−]?'
    '|[)\]}"’”][+\-−]?',
    part := '()([+\-−]?(?:(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+\-−]?[0-9]+)?)[+\-−]?$'
);
