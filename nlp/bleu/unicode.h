/* What BLEU's tokenisers and lower case must know of characters, frozen: see make_unicode.py. */
#ifndef PLUMB_NLP_BLEU_UNICODE_H
#define PLUMB_NLP_BLEU_UNICODE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    UNICODE_OTHER,
    UNICODE_NUMBER,      /* N* */
    UNICODE_PUNCTUATION, /* P* */
    UNICODE_SYMBOL,      /* S* */
} UnicodeClass;
UnicodeClass unicode_class(uint32_t code);

/* The small letter of one character; U+0130, which becomes two, stays as it is. */
uint32_t unicode_lower(uint32_t code);
/* A capital sigma ends a word, and becomes a final one, behind a cased character and before none, ignorable ones left out. No
 * character is both here: str.lower asks first whether it is ignorable. */
bool unicode_is_cased(uint32_t code);
bool unicode_is_ignorable(uint32_t code);

#endif
