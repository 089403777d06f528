-- Tokens whose loss at a step is above that before it and that after it by more than τ: FROM spike('pythia-70m', 1000, 2000, 3000, 0.5). Take τ from the token's own variation between checkpoints, and compare the share with that in windows without a spike.
-- $of_model model: the model
-- $before_step step: the step before it
-- $at_step step: the step of the spike
-- $after_step step: the step after it
-- $tau number [nats]: loss at the step minus the higher of the two others is above this
-- -> dataset, context, position
CREATE OR REPLACE MACRO spike(of_model, before_step, at_step, after_step, tau) AS TABLE
SELECT dataset, context, position
FROM compared_checkpoints(of_model, before_step, after_step)
JOIN at_checkpoint(of_model, at_step) AS middle USING (dataset, context, position)
WHERE middle.loss - greatest(earlier, later) > tau;
