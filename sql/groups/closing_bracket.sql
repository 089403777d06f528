-- Tokens that hold a closing bracket: ) ] } and those of other scripts.
SELECT dataset, context, position
FROM matching('[)\]}）］｝〕】》〉」』⟩⟧]');
