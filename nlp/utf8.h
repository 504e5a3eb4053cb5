/* UTF-8: is it valid, and where is what. */
#ifndef PLUMB_NLP_UTF8_H
#define PLUMB_NLP_UTF8_H

#include <stddef.h>

/* Offset of the first byte that is not part of valid UTF-8 (RFC 3629: no surrogates, no overlong forms, up to
 * U+10FFFF); size if there is none. */
size_t utf8_invalid(const char *text, size_t size);
/* Characters in valid UTF-8: columns of messages are counted in these. */
size_t utf8_characters(const char *text, size_t size);

#endif
