-- Positions of the tokens that hold some of the characters found, as a list; the other values come from context_texts.
-- $found list: for each character, whether it is found
-- $of_characters list: holders
-- $of_bytes list: byte_holders
-- $sizes list: widths
CREATE OR REPLACE MACRO found_tokens(found, of_characters, of_bytes, sizes) AS list_distinct(CASE
    WHEN sizes IS NULL THEN list_where(of_characters, found)
    ELSE list_where(
        of_bytes,
        flatten(list_transform(list_zip(found, sizes), lambda each: list_resize([each[1]], each[2], each[1])))
    )
END);
