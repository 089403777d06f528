-- Tokens of answers: those whose role is answer, in datasets that have roles.
SELECT dataset, context, position
FROM tokens
WHERE role = 'answer';
