-- The losses of a model at two steps side by side, of tokens that have both: FROM compared_checkpoints('pythia-70m', 512, 2000). An error for a step that the model does not have.
-- $of_model model: the model
-- $from_step step: the earlier step
-- $to_step step: the later step
-- -> dataset, context, position
-- -> earlier, later [nats]: loss at the two steps
-- -> mean [nats]: mean of the later over these tokens of the dataset
CREATE OR REPLACE MACRO compared_checkpoints(of_model, from_step, to_step) AS TABLE
SELECT
    dataset, context, position, earlier.loss AS earlier, later.loss AS later,
    avg(later.loss) OVER (PARTITION BY dataset) AS mean
FROM at_checkpoint(of_model, from_step) AS earlier
JOIN at_checkpoint(of_model, to_step) AS later USING (dataset, context, position);
