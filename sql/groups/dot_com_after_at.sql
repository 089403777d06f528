-- Tokens of the .com of a host after an @, as in `user@example.com` and `@example.com.au`.
SELECT dataset, context, position
FROM matching('@[A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)*', part := '(?i)(@[a-z0-9.\-]*[a-z0-9\-])(\.com)(?:\.|$)');
