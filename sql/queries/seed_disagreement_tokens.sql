-- The tokens on which models, such as seeds of one size, disagree most at a step, with what stands before them.
-- $models models: the models, two at least
-- $step step = last: the step
-- $datasets datasets = *: datasets to look at
-- $group group = every_token: take only this group's tokens
-- $align align = predict: predict for the losses of the group's tokens, after for those of the tokens that follow them
-- $top integer [tokens] = 20: how many of each dataset to show
-- -> dataset, context, position
-- -> before: the text of the ten tokens before it
-- -> text
-- -> models: number of models
-- -> mean [nats]: mean loss over the models
-- -> sd [nats]: standard deviation between the models (n − 1)
-- -> low, high [nats]: lowest and highest loss
-- e.g. trajstore query seed_disagreement_tokens -p 'models=tiny-2l-*' -p step=362
WITH chosen AS (
    SELECT
        dataset, context, position, count(*) AS models, avg(loss::DOUBLE) AS mean,
        stddev_samp(loss::DOUBLE) AS sd, min(loss) AS low, max(loss) AS high
    FROM raw_losses
    SEMI JOIN aligned($group, align := $align) USING (dataset, context, position)
    WHERE step = $step AND model IN $models AND dataset IN $datasets
    GROUP BY dataset, context, position
    HAVING models > 1
    QUALIFY row_number() OVER (PARTITION BY dataset ORDER BY sd DESC, context, position) <= $top
)
SELECT
    dataset, context, position,
    text_before(dataset, context, position, 10) AS before,
    text, models, mean, sd, low, high
FROM chosen
JOIN tokens USING (dataset, context, position)
ORDER BY dataset, sd DESC, context, position;
