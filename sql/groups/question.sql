-- Tokens of questions: those whose role is question, in datasets that have roles.
SELECT dataset, context, position
FROM tokens
WHERE role = 'question';
