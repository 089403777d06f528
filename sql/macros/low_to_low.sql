-- Tokens whose loss is low at one step and still low at another: FROM low_to_low('pythia-70m', 512, 143000). High is above the threshold, low is not. After the four categories of Rho-1 (Lin et al. 2024), who tell rising from falling by a line fitted to many checkpoints; here two checkpoints decide.
-- $of_model model: the model
-- $from_step step: the earlier step
-- $to_step step: the later step
-- $threshold number [nats] = null: what parts high from low; by default the dataset's mean loss at the later step
-- -> dataset, context, position
CREATE OR REPLACE MACRO low_to_low(of_model, from_step, to_step, threshold := NULL) AS TABLE
SELECT dataset, context, position
FROM compared_checkpoints(of_model, from_step, to_step)
WHERE earlier <= coalesce(threshold, mean) AND later <= coalesce(threshold, mean);
