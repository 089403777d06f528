-- The shape of each token's trajectory over log step.
CREATE OR REPLACE VIEW shapes AS
SELECT
    finding, model, dataset, context, position, shape, nearest, delta_bic, midpoint, width, exponent, turn, "drop",
    start, final, forgetting, acquired, variability, noise, rho
FROM read_parquet(
    coalesce(getvariable('store') || '/', '') || 'findings/kind=shapes/*/tokens.parquet',
    hive_partitioning = true,
    hive_types = {'kind': VARCHAR, 'finding': VARCHAR}
);
COMMENT ON VIEW shapes IS 'The shape of each token''s trajectory over log step (a finding), with when and by how much its loss changes. Levels are those of the fitted curve.';
COMMENT ON COLUMN shapes.finding IS 'name of the finding';
COMMENT ON COLUMN shapes.shape IS 'constant, line, power_law, late_drop (a power law with a smaller fall after it), sigmoid, step, rise_and_fall, fall_and_rise or other (two changes that are no late drop); undecided where another shape is nearly as likely, what it leaves is more than short-range noise, less than half of it is seen, or it goes below 0. sigmoid and step are S-shaped';
COMMENT ON COLUMN shapes.nearest IS 'the shape of lowest BIC, also where it is undecided; the columns after it are of its curve';
COMMENT ON COLUMN shapes.delta_bic IS 'by how much its BIC is below that of the best rival, of late_drop and other of the best single shape; undecided below 6, unless it is a constant';
COMMENT ON COLUMN shapes.midpoint IS 'step at which a sigmoid or a late drop is half-way, or, on the log axis, half-way between the checkpoints of a step; else NULL';
COMMENT ON COLUMN shapes.width IS 'doublings of the step that 10 to 90 % of the way of a sigmoid or late drop take; else NULL';
COMMENT ON COLUMN shapes.exponent IS 'c of a power law a + d · step^(−c) or a + d · (1 + step/s₀)^(−c), with a late drop or not; else NULL';
COMMENT ON COLUMN shapes.turn IS 'step at which a rise_and_fall is highest, or a fall_and_rise lowest; else NULL';
COMMENT ON COLUMN shapes."drop" IS 'how far the loss falls (rises: negative): from plateau to plateau of a sigmoid, step or late drop, else from the first step to the last [nats]';
COMMENT ON COLUMN shapes.start IS 'level at the first step [nats]';
COMMENT ON COLUMN shapes.final IS 'level at the last step [nats]';
COMMENT ON COLUMN shapes.forgetting IS 'level at the last step less the lowest at any step [nats]';
COMMENT ON COLUMN shapes.acquired IS 'age of acquisition: the first step at which the curve is half-way from its start to its lowest level; NULL where it does not fall';
COMMENT ON COLUMN shapes.variability IS 'root mean square of the losses about the curve in the last doubling of the steps; NULL for fewer than 3 checkpoints there [nats]';
COMMENT ON COLUMN shapes.noise IS 'standard deviation of the losses about the curve, as AR(1) noise, steps weighed by doublings [nats]';
COMMENT ON COLUMN shapes.rho IS 'correlation of that noise with the one at the checkpoint before';
