-- Whether a name is one of names or globs joined by commas: is_meant('pythia-70m-seed3', 'pythia-70m,pythia-70m-seed*').
-- $this text: a name, such as a model's
-- $names models: names or globs
CREATE OR REPLACE MACRO is_meant(this, names) AS
    -- In a form by which, given names or one glob, DuckDB leaves out the files of other models before it opens any.
    contains(',' || names || ',', ',' || this || ',')
    OR CASE
        WHEN contains(names, ',') AND contains(translate(names, '?[', '**'), '*')
            THEN len(list_filter(string_split(names, ','), lambda each: this GLOB each)) > 0
        ELSE this GLOB names
    END;
