-- The tokens whose loss rose most between two steps, of each model on each dataset, with what stands before them.
-- $from_step step: the earlier step
-- $to_step step = last: the later step
-- $models models = *: models to look at
-- $datasets datasets = *: datasets to look at
-- $group group = every_token: take only this group's tokens
-- $align align = predict: predict for the losses of the group's tokens, after for those of the tokens that follow them
-- $top integer [tokens] = 20: how many to show
-- -> model, dataset, context, position
-- -> before: the text of the ten tokens before it
-- -> text
-- -> earlier, later [nats]: its loss at the two steps
-- -> difference [nats]: later minus earlier
-- -> noise [nats]: what a difference may drown in, null where it was not measured
-- e.g. trajstore query most_forgotten -p from_step=512 -p to_step=1448 -p datasets=docs
WITH chosen AS (
    SELECT model, dataset, context, position, difference, noise
    FROM stepwise($from_step, $to_step)
    SEMI JOIN aligned($group, align := $align) USING (dataset, context, position)
    WHERE model IN $models AND dataset IN $datasets AND difference > 0
    QUALIFY row_number() OVER (PARTITION BY model, dataset ORDER BY difference DESC, context, position) <= $top
)
SELECT
    model, dataset, context, position,
    text_before(dataset, context, position, 10) AS before,
    text,
    loss - difference AS earlier,
    loss AS later,
    difference,
    noise
FROM chosen
JOIN (SELECT model, dataset, context, position, loss FROM raw_losses WHERE step = $to_step)
    USING (model, dataset, context, position)
JOIN tokens USING (dataset, context, position)
ORDER BY model, dataset, difference DESC, context, position;
