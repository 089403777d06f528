-- Tokens on which models, such as seeds of one size, disagree: their highest and lowest loss differ by more than τ: FROM models_disagree('pythia-70m-seed*', 143000, 2.0). Only tokens that each of the models has; an error where one has no losses at that step at all.
-- $of_models models: the models, two at least
-- $at_step step: the step
-- $tau number [nats]: highest loss minus lowest is above this
-- -> dataset, context, position
CREATE OR REPLACE MACRO models_disagree(of_models, at_step, tau) AS TABLE
SELECT dataset, context, position
FROM (
    SELECT dataset, context, position, max(loss::DOUBLE) - min(loss) AS difference, count(*) AS models
    FROM raw_losses
    WHERE step = at_step AND is_meant(model, of_models)
    GROUP BY dataset, context, position
)
WHERE difference > tau AND models = (
    SELECT count(*)
    FROM glob(coalesce(getvariable('store') || '/', '') || 'losses/model=[A-Za-z0-9]*/')
    WHERE is_meant(regexp_extract(file, 'model=([^/]+)/?$', 1), of_models)
)
UNION ALL
-- Never a row, as in at_checkpoint.
SELECT fault, fault::INTEGER, fault::INTEGER
FROM (
    SELECT CASE
        WHEN len(unknown) > 0 THEN error(format(
            'There are no losses of a model {}; there are of: {}.',
            array_to_string(unknown, ', '), array_to_string(models[:12], ', ')
        ))
        WHEN len(asked) < 2 THEN error(format('{} is one model; it takes two at least.', of_models))
        WHEN len(lacking) > 0 THEN error(format(
            'At step {} there are no losses of: {}. Name the models that have them, or another step.',
            at_step, array_to_string(lacking[:12], ', ')
        ))
    END::VARCHAR AS fault
    FROM (
        SELECT
            models,
            list_filter(models, lambda name: is_meant(name, of_models)) AS asked,
            list_filter(asked, lambda name: NOT list_contains(scored, name)) AS lacking,
            list_filter(
                string_split(of_models, ','),
                lambda each: len(list_filter(models, lambda name: is_meant(name, each))) = 0
            ) AS unknown
        FROM (
            SELECT coalesce(list(regexp_extract(file, 'model=([^/]+)/?$', 1) ORDER BY file), []) AS models
            FROM glob(coalesce(getvariable('store') || '/', '') || 'losses/model=[A-Za-z0-9]*/')
        ), (
            SELECT coalesce(list(DISTINCT regexp_extract(file, 'losses/model=([^/]*)/', 1)), []) AS scored
            FROM glob(
                coalesce(getvariable('store') || '/', '') || 'losses/*/*/step='
                || coalesce(at_step::VARCHAR, '') || '/slice.parquet'
            )
        )
    )
)
WHERE fault IS NOT NULL;
