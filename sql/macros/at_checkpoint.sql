-- The losses of one checkpoint: FROM at_checkpoint('pythia-70m', 512). An error where the model has none at that step: what the macros that compare checkpoints stand on.
-- $of_model model: the model
-- $at_step step: the step
-- -> dataset, context, position
-- -> loss [nats]: −log p(token given earlier tokens), as a double, so that differences are exact
CREATE OR REPLACE MACRO at_checkpoint(of_model, at_step) AS TABLE
SELECT dataset, context, position, loss::DOUBLE AS loss
FROM raw_losses
WHERE model = of_model AND step = at_step
UNION ALL
-- Never a row, but an error where paths say that nothing is there: in every column, since a filter on any one
-- would leave out a column that is known to be null.
SELECT fault, fault::INTEGER, fault::INTEGER, fault::DOUBLE
FROM (
    SELECT CASE
        WHEN list_contains(steps, at_step) THEN NULL
        WHEN steps IS NULL THEN error(format(
            'There are no losses of a model {}; names most like it: {}.',
            of_model, coalesce(array_to_string(models, ', '), 'none')
        ))
        ELSE error(format(
            '{} has no losses at step {}; the nearest that it has: {}.',
            of_model,
            at_step,
            array_to_string(list_sort(list_transform(
                list_sort(list_transform(steps, lambda each: [abs(each - at_step), each]))[:6], lambda each: each[2]
            )), ', ')
        ))
    END::VARCHAR AS fault
    FROM (
        SELECT list(DISTINCT regexp_extract(file, '/step=([^/]*)/', 1)::BIGINT) AS steps
        FROM glob(
            coalesce(getvariable('store') || '/', '') || 'losses/model=' || coalesce(of_model, '')
            || '/*/*/slice.parquet'
        )
        WHERE contains(file, 'losses/model=' || of_model || '/')
    ), (
        SELECT list(name ORDER BY jaro_winkler_similarity(name, of_model) DESC, name)[:6] AS models
        FROM (
            SELECT regexp_extract(file, 'model=([^/]+)/?$', 1) AS name
            FROM glob(coalesce(getvariable('store') || '/', '') || 'losses/model=[A-Za-z0-9]*/')
        )
    )
)
WHERE fault IS NOT NULL;
