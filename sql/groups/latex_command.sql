-- Tokens of LaTeX commands of two letters or more, with their backslash (\frac, \begin, \section*); not in Windows paths or after another backslash. An escape before letters in code (\nfoo) looks the same.
SELECT dataset, context, position
FROM matching('\b[A-Za-z]:\\\S*|\\\\|\\[A-Za-z]{2,}\*?', part := '()(\\[A-Za-z]{2,}\*?)$');
