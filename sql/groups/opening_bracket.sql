-- Tokens that hold an opening bracket: ( [ { and those of other scripts.
SELECT dataset, context, position
FROM matching('[(\[{（［｛〔【《〈「『⟨⟦]');
