-- Tokens whose loss at a step is below that before it and that after it by more than τ: FROM inverse_spike('pythia-70m', 1000, 2000, 3000, 0.5). What spike() says of τ holds here as well.
-- $of_model model: the model
-- $before_step step: the step before it
-- $at_step step: the step of the spike
-- $after_step step: the step after it
-- $tau number [nats]: the lower loss of the two others minus that at the step is above this
-- -> dataset, context, position
CREATE OR REPLACE MACRO inverse_spike(of_model, before_step, at_step, after_step, tau) AS TABLE
SELECT dataset, context, position
FROM compared_checkpoints(of_model, before_step, after_step)
JOIN at_checkpoint(of_model, at_step) AS middle USING (dataset, context, position)
WHERE least(earlier, later) - middle.loss > tau;
