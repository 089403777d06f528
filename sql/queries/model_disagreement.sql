-- The tokens on which two models' losses differ most at a step, with what stands before them.
-- $model model: one model
-- $other model: the other
-- $step step = last: the step
-- $other_step step = null: the other model's step, where it is not the same
-- $datasets datasets = *: datasets to look at
-- $group group = every_token: take only this group's tokens
-- $align align = predict: predict for the losses of the group's tokens, after for those of the tokens that follow them
-- $top integer [tokens] = 20: how many of each dataset to show
-- -> dataset, context, position
-- -> before: the text of the ten tokens before it
-- -> text
-- -> loss
-- -> other_loss [nats]: the other model's
-- -> difference [nats]: the other model's minus the one's
-- e.g. trajstore query model_disagreement -p model=tiny-1l-seed0 -p other=tiny-2l-seed0 -p datasets=code
WITH chosen AS (
    SELECT dataset, context, position, one.loss, two.loss AS other_loss, two.loss - one.loss AS difference
    FROM (SELECT dataset, context, position, loss FROM raw_losses WHERE model = $model AND step = $step) AS one
    JOIN (
        SELECT dataset, context, position, loss
        FROM raw_losses
        WHERE model = $other AND step = coalesce($other_step, $step)
    ) AS two USING (dataset, context, position)
    SEMI JOIN aligned($group, align := $align) USING (dataset, context, position)
    WHERE dataset IN $datasets
    QUALIFY row_number() OVER (PARTITION BY dataset ORDER BY abs(difference) DESC, context, position) <= $top
)
SELECT
    dataset, context, position,
    text_before(dataset, context, position, 10) AS before,
    text, loss, other_loss, difference
FROM chosen
JOIN tokens USING (dataset, context, position)
ORDER BY dataset, abs(difference) DESC, context, position;
