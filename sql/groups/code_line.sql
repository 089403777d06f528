-- Tokens of lines that look like code: a definition, import, block or statement, a call, an assignment, operators such as == and ->, a semicolon or brace at the end, a tag, a prompt. A guess by each line alone: some prose passes for code and some code for prose.
SELECT dataset, context, position
FROM matching(
    '(?m)^[ \t]*(?:'
    '(?:async )?def \w+ ?\(.*|class \w+ ?(?:\(.*|:|\{)[ \t]*(?:#.*)?|(?:export )?(?:async )?function\b.*[({].*'
    '|import [\w.]+(?: as \w+)?(?:, ?[\w.]+(?: as \w+)?)*;?|from [\w.]+ import .*'
    '|(?:if|elif|while|with|for \w+(?:, ?\w+)* in)\b.*:|(?:else|try|finally|except(?: .*)?):'
    '|(?:pass|break|continue|return|yield|raise);?'
    '|(?:return|yield|raise|assert|del|await)(?: not)? [^ \n]+(?: (?:[-+*/%<>=&|]+|and|or|not|in|is|if|else|for) [^ \n]+)*'
    '|(?:return|yield|raise|assert|del|await) .*[()\[\]{}=<>''"].*'
    '|@\w+(?:\.\w+)*(?:\(.*\))?|#(?:include|define|ifdef|ifndef|endif|pragma|if|else)\b.*|#!/.*|(?://|/\*|\*/).*'
    '|(?:>>>|\.\.\.) .*|\$ \w.*|</?[A-Za-z!][^<>\n]*>.*'
    '|.*[\w)\]}''">][ \t]*\{|.*[)\]}''"];|[^ \n]+(?: [^ \n]+){0,2};|[)\]}]+[;,:]?'
    '|[\w.]+\(.*\)[;,:]?|.*[\w)\]''"] ?(?:==|!=|&&|\|\||=>|->|\+=|-=|\*=|:=|::) ?[\w(\[''"].*'
    '|(?:[\w.<>\[\]*&:,]+[ \t]+){0,2}[\w.\[\]''"*&>\-]+(?:: ?[\w.\[\], |''"]+)? ?=[ \t]?[^ =\n].*'
    '|[''"][\w .\-]+[''"] ?: .*,'
    ')[ \t\r]*$'
);
