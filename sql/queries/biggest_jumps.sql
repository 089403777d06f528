-- Between which neighbouring checkpoints the mean loss of a group changed most, of each model on each dataset.
-- $group group = every_token: the group
-- $align align = predict: predict for the losses of the group's tokens, after for those of the tokens that follow them
-- $after integer [step] = 0: look at checkpoints from this step on
-- $models models = *: models to look at
-- $datasets datasets = *: datasets to look at
-- $top integer [jumps] = 10: how many to show
-- -> model, dataset
-- -> from_step, step: the two checkpoints
-- -> tokens [tokens]: losses that the later mean is of
-- -> mean [nats]: mean loss at the later
-- -> difference [nats]: mean loss at the later minus mean loss at the earlier
-- e.g. trajstore query biggest_jumps -p group=induction_bigram -p datasets=repeats
WITH jumps AS (
    SELECT
        model, dataset, lag(step) OVER steps AS from_step, step, tokens, mean,
        mean - lag(mean) OVER steps AS difference
    FROM trajectory($group, align := $align)
    WHERE step >= $after AND model IN $models AND dataset IN $datasets
    WINDOW steps AS (PARTITION BY model, dataset ORDER BY step)
)
FROM jumps
WHERE difference IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY model, dataset ORDER BY abs(difference) DESC, step) <= $top
ORDER BY model, dataset, abs(difference) DESC, step;
