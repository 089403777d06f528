-- What the footer of each slice says of itself, as JSON; other views take their facts from here.
CREATE OR REPLACE VIEW slice_footers AS
SELECT
    regexp_extract(file_name, 'losses/model=([^/]*)/', 1) AS model,
    regexp_extract(file_name, '/dataset=([^/]*)/', 1) AS dataset,
    regexp_extract(file_name, '/step=([^/]*)/', 1)::BIGINT AS step,
    decode(value)::JSON AS facts
FROM parquet_kv_metadata(coalesce(getvariable('store') || '/', '') || 'losses/*/*/step=[0-9]*/slice.parquet')
WHERE decode(key) = 'trajstore';
COMMENT ON VIEW slice_footers IS 'Provenance of each slice (JSON): weights, revision, commit, dtype, attention kernel, vocabulary of the softmax, batch, versions, device, run, time, and hashes.';
COMMENT ON COLUMN slice_footers.facts IS 'what the footer says (JSON)';
