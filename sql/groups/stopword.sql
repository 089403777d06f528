-- English stopwords as whole words, in any case of letters: function words (the, of, it, would) and their contractions (don't, it's).
SELECT dataset, context, position
FROM matching(
    a_word(),
    part := '(?i)()('
        'i|me|my|mine|myself|we|us|our|ours|ourselves|you|your|yours|yourself|yourselves|he|him|his|himself|she|'
        'her|hers|herself|it|its|itself|they|them|their|theirs|themselves|what|which|who|whom|whose|this|that|'
        'these|those|am|is|are|was|were|be|been|being|have|has|had|having|do|does|did|doing|a|an|the|and|but|if|or|'
        'because|as|until|while|of|at|by|for|with|about|against|between|into|through|during|before|after|above|'
        'below|to|from|up|down|in|out|on|off|over|under|again|further|then|once|here|there|when|where|why|how|all|'
        'any|both|each|few|more|most|other|some|such|no|nor|not|only|own|same|so|than|too|very|can|could|will|'
        'would|shall|should|may|might|must|cannot|just|also|now|'
        '(?:do|does|did|is|are|was|were|has|have|had|wo|would|ca|could|should|must|might|need|ai)n[''’]t|'
        '(?:i|you|he|she|it|we|they|that|there|here|what|who|where|how|let)[''’](?:s|m|re|ve|d|ll)'
        ')$'
);
