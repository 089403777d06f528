-- The long format: every loss with its token.
CREATE OR REPLACE VIEW losses AS
SELECT model, dataset, step, context, position, token, loss
FROM raw_losses
JOIN tokens USING (dataset, context, position);
COMMENT ON VIEW losses IS 'The long format: -log p(token | earlier tokens) in nats, by model, dataset, step, context and position of the predicted token, with that token.';
