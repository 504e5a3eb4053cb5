/* corpus.json of a run: which texts it has trained on, so that a run does not go on with others unnoticed.
 *
 *     {"train": {"source": {"file": "data/train.en", "lines": 29000, "xxh3": "0123456789abcdef"}, "target": {...}}, ...} */
#ifndef PLUMB_LAUNCH_TASKS_CORPUS_RECORD_H
#define PLUMB_LAUNCH_TASKS_CORPUS_RECORD_H

#include "launch/tasks/translation_data.h"

/* Writes the file, of the splits that are loaded. */
CHECKED Status corpus_record_write(const TranslationData *, const char *folder);
/* STATUS_INPUT names the first file whose text is another one. OK without a record, as of runs of earlier versions. */
CHECKED Status corpus_record_check(const TranslationData *, const char *folder);

#endif
