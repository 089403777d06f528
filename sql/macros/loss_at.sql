-- The losses at one step: FROM loss_at(512) WHERE model = 'pythia-70m'.
CREATE OR REPLACE MACRO loss_at(at_step) AS TABLE
SELECT model, dataset, context, position, token, loss
FROM losses
WHERE step = at_step;
