-- The losses at one step: FROM loss_at(512) WHERE model = 'pythia-70m'.
-- $at_step step: the step
-- -> model, dataset, context, position, token, loss
CREATE OR REPLACE MACRO loss_at(at_step) AS TABLE
SELECT model, dataset, context, position, token, loss
FROM losses
WHERE step = at_step;
