-- Tokens whose loss is lower in one model than in another by more than τ: FROM better('pythia-160m', 'pythia-70m', 143000, 0.5).
-- $of_model model: the model whose loss is lower
-- $than_model model: the other
-- $at_step step: the step
-- $tau number [nats]: the other's loss minus the one's is above this
-- $other_step step = null: the other model's step, where it is not the same
-- -> dataset, context, position
CREATE OR REPLACE MACRO better(of_model, than_model, at_step, tau, other_step := NULL) AS TABLE
SELECT dataset, context, position
FROM at_checkpoint(of_model, at_step) AS one
JOIN at_checkpoint(than_model, coalesce(other_step, at_step)) AS other USING (dataset, context, position)
WHERE other.loss - one.loss > tau;
