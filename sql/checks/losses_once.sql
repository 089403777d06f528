-- No slice has two losses for one site.
SELECT model, dataset, step, count(*) - count(DISTINCT (context, position)) AS bad
FROM raw_losses
GROUP BY ALL
HAVING bad > 0;
