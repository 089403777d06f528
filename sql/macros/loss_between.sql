-- Tokens whose loss at a step lies within a range, its ends included: FROM loss_between('pythia-70m', 512, 2, 4).
-- $of_model model: the model
-- $at_step step: the step
-- $low number [nats]: the lowest loss
-- $high number [nats]: the highest loss
-- -> dataset, context, position
CREATE OR REPLACE MACRO loss_between(of_model, at_step, low, high) AS TABLE
SELECT dataset, context, position
FROM at_checkpoint(of_model, at_step)
WHERE loss BETWEEN low AND high;
