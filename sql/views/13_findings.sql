-- Every finding: a stored result of an analysis.
CREATE OR REPLACE VIEW findings AS
SELECT DISTINCT
    facts ->> '$.kind' AS kind,
    facts ->> '$.finding' AS finding,
    (facts ->> '$.made')::TIMESTAMPTZ AS made,
    facts -> '$.facts' AS facts
FROM (
    SELECT decode(value)::JSON AS facts
    FROM parquet_kv_metadata(coalesce(getvariable('store') || '/', '') || 'findings/*/*/*.parquet')
    WHERE decode(key) = 'trajstore'
);
COMMENT ON VIEW findings IS 'Every finding, a stored result of an analysis: its kind, its name, when it was made, and what of and how (JSON).';
COMMENT ON COLUMN findings.kind IS 'the analysis, such as pca';
COMMENT ON COLUMN findings.finding IS 'name of the finding';
COMMENT ON COLUMN findings.made IS 'when it was made (UTC)';
COMMENT ON COLUMN findings.facts IS 'what it was made of and how (JSON)';
