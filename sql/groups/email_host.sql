-- Tokens of what follows the @ of an e-mail address.
SELECT dataset, context, position
FROM matching(
    '[A-Za-z0-9][A-Za-z0-9._%+\-]*@(?:[A-Za-z0-9](?:[A-Za-z0-9\-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}\b',
    part := '([^@]*@)(.*)$'
);
