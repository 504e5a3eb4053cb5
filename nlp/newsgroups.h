/* The 20 Newsgroups: one file a message, one folder a class. */
#ifndef PLUMB_NLP_NEWSGROUPS_H
#define PLUMB_NLP_NEWSGROUPS_H

#include "nlp/documents.h"

#include <limits.h>

/* The layouts in which they come. */
typedef enum {
    NEWSGROUPS_ANY,     /* by date if that is there, else in one folder */
    NEWSGROUPS_BY_DATE, /* 20news-bydate-train and 20news-bydate-test: 11,314 and 7,532 documents */
    NEWSGROUPS_SINGLE   /* 20_newsgroups or 20_newsgroup: 19,997; or a folder with the classes in it */
} NewsgroupsLayout;

/* Reads the documents as the published code does: folders sorted by name are classes; files whose names are digits,
 * sorted as strings; bytes are latin-1 (text is their UTF-8), CR LF and CR are LF; all before the first LF LF is cut
 * off if that is not at the very start. Training part first. `folder` holds the folders of the layout, or is itself
 * the single one.
 * STATUS_INPUT: no layout (says where it looked), a folder without classes, a class without documents, parts whose
 * classes differ. An unreadable file is an error that names it. */
CHECKED Status newsgroups_read(const char *folder, NewsgroupsLayout, Documents *);

/* What that is made of: the text of one message, as UTF-8, into out[2 * size] (at least 1 byte); returns its bytes.
 * *header is whether something was cut off. */
size_t newsgroups_message(const char *bytes, size_t size, char *out, bool *header);
/* Does the text begin as messages do: lines "Name: value", or such that begin with white space and go on with the last, and
 * then a blank line? So do 18,843 of the 18,846 messages by date. What does not is no message, and has no header to cut off. */
bool newsgroups_has_header(const char *bytes, size_t size);

#endif
