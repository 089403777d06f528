-- Tokens that hold a quotation mark; a ' between letters or digits is an apostrophe and none.
SELECT dataset, context, position
FROM matching(
    '[\p{L}\p{M}\p{N}]+(?:[''’][\p{L}\p{M}\p{N}]+)*|["''“”„‟‘’‚‛«»‹›「」『』＂]',
    part := '()(["''“”„‟‘’‚‛«»‹›「」『』＂])'
);
