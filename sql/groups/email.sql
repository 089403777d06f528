-- Tokens of e-mail addresses (name@host.domain).
SELECT dataset, context, position
FROM matching('[A-Za-z0-9][A-Za-z0-9._%+\-]*@(?:[A-Za-z0-9](?:[A-Za-z0-9\-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}\b');
