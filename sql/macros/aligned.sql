-- Places of the losses that a group stands for: FROM aligned('digits', align := 'after'). What follows a context's last token is no place of a loss, and joins with none.
-- $group_name group: the group
-- $align align = predict: predict for the group's own tokens, after for those that follow them
-- -> dataset, context, position
CREATE OR REPLACE MACRO aligned(group_name, align := 'predict') AS TABLE
SELECT
    dataset,
    context,
    position + CASE align
        WHEN 'predict' THEN 0
        WHEN 'after' THEN 1
        ELSE error('align is ' || coalesce(align, 'null') || '; there is predict (the loss of the token itself) and after (of the token that follows it)')
    END AS position
FROM query_table('groups.' || group_name);
