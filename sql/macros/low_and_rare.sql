-- Tokens of rare types whose loss at a step is low all the same: FROM low_and_rare('pythia-70m', 143000, 0.1, 3).
-- $of_model model: the model
-- $at_step step: the step, such as the last
-- $below number [nats]: the loss is below this
-- $at_most integer [tokens]: the type occurs at most this often in its dataset
-- -> dataset, context, position
CREATE OR REPLACE MACRO low_and_rare(of_model, at_step, below, at_most) AS TABLE
SELECT dataset, context, position
FROM tokens
SEMI JOIN (SELECT dataset, token FROM unigrams WHERE occurrences <= at_most) USING (dataset, token)
JOIN at_checkpoint(of_model, at_step) USING (dataset, context, position)
WHERE loss < below;
