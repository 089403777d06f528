-- Capital letters that begin a sentence: after . ! ? or …, whitespace, and brackets or quotation marks if any; not after an initial (J.) or a common abbreviation (Mr.).
SELECT dataset, context, position
FROM matching(
    '(?:Mr|Mrs|Ms|Dr|Prof|Rev|Gen|Col|Capt|Lt|Sgt|Gov|Sen|Rep|Pres|St|Mt|Jr|Sr|vs|cf|al|approx|No|Nos|Fig|Figs|Eq|Eqs'
    '|Sec|Vol|pp|Ref|Refs|Inc|Ltd|Co|Corp|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec|[eE]\.g|[iI]\.e)\.\s+'
    '|(?:\p{Lu}\.)+\s+|[\p{L}\p{M}\p{N}_]+'
    '|[.!?…][.!?…)\]"''’”»]*\s+[(\["''‘“«¿¡]*\p{Lu}',
    part := '([.!?…][^\p{Lu}]*)(\p{Lu})$'
);
