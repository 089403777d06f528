-- Which comes first in each model, an event of one curve or an event of others, of one finding of phases. Two events whose
-- intervals share a stretch of training cannot be put in order.
-- $finding finding: a finding of trajstore phases that has both curves
-- $first text: the curve, as the column series of events has it; % stands for anything
-- $second text: the others, in the same way
-- $first_event text = fastest_fall: change, minimum, maximum, fastest_fall or fastest_rise
-- $second_event text = fastest_fall: the same of the others
-- -> model
-- -> first, first_dataset: the curve and its dataset
-- -> first_low, first_high [steps]: the interval of its event
-- -> second, second_dataset: another curve and its dataset
-- -> second_low, second_high [steps]: the interval of its event
-- -> first_is: before, after or cannot tell: where the first event lies to the second
-- e.g. trajstore query event_order -p finding=order -p first=rankme% -p second=repeated_half
WITH chosen AS (
    SELECT * FROM events WHERE finding = $finding
)
SELECT
    model,
    a.series AS first, a.dataset AS first_dataset, a.low AS first_low, a.high AS first_high,
    b.series AS second, b.dataset AS second_dataset, b.low AS second_low, b.high AS second_high,
    CASE WHEN a.high <= b.low THEN 'before' WHEN a.low >= b.high THEN 'after' ELSE 'cannot tell' END AS first_is
FROM chosen AS a
JOIN chosen AS b USING (model)
WHERE a.series LIKE $first AND a.kind = $first_event AND b.series LIKE $second AND b.kind = $second_event
ORDER BY model, a.series, a.dataset, a.low, b.low, b.high, b.series, b.dataset;
