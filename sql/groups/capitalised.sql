-- Tokens in which a word begins with a capital letter.
SELECT dataset, context, position
FROM matching(a_word(), part := '()([\p{Lu}\p{Lt}])');
