-- Which slices are there: their rows and paths.
CREATE OR REPLACE VIEW coverage AS
SELECT
    regexp_extract(file_name, 'losses/model=([^/]*)/', 1) AS model,
    regexp_extract(file_name, '/dataset=([^/]*)/', 1) AS dataset,
    regexp_extract(file_name, '/step=([^/]*)/', 1)::BIGINT AS step,
    num_rows::BIGINT AS "rows",
    regexp_extract(file_name, 'losses/model=.*$') AS path
FROM parquet_file_metadata(coalesce(getvariable('store') || '/', '') || 'losses/*/*/step=[0-9]*/slice.parquet')
WHERE NOT contains(file_name, '/model=.empty/');
COMMENT ON VIEW coverage IS 'Every slice there is: model, dataset, step, number of losses, path inside the store.';
COMMENT ON COLUMN coverage."rows" IS 'number of losses in the slice';
COMMENT ON COLUMN coverage.path IS 'of the slice''s file, inside the store';
