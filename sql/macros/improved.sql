-- Tokens whose loss fell by more than τ from one step to another: FROM improved('pythia-70m', 512, 2000, 1.0).
-- $of_model model: the model
-- $from_step step: the earlier step
-- $to_step step: the later step
-- $tau number [nats]: loss at the earlier step minus loss at the later is above this
-- -> dataset, context, position
CREATE OR REPLACE MACRO improved(of_model, from_step, to_step, tau) AS TABLE
SELECT dataset, context, position
FROM compared_checkpoints(of_model, from_step, to_step)
WHERE earlier - later > tau;
