/* Names of classes as text files: a name a line, in the order of the labels. A run keeps those of its classes in classes.txt. */
#ifndef PLUMB_LAUNCH_TASKS_CLASS_NAMES_H
#define PLUMB_LAUNCH_TASKS_CLASS_NAMES_H

#include "engine/base/status.h"

#include <stdint.h>

typedef struct {
    char *text;
    const char **name; /* [count], in text */
    int64_t count;
} ClassNames;
/* STATUS_INPUT names file and line of an empty name. Release with class_names_free, also after an error. */
CHECKED Status class_names_read(const char *path, ClassNames *);
void class_names_free(ClassNames *);

/* ---- classes.txt of a run ---- */

CHECKED Status class_names_write(const char *folder, const char *const name[], int64_t classes);
/* That the run has these names, if it has any (earlier versions kept none). data: where the names come from, for the message.
 * A network knows classes by number: with other names it would be measured against labels that mean something else. */
CHECKED Status class_names_check(const char *folder, const char *const name[], int64_t classes,
                                 const char *data);
/* Nothing where the run has no such file. Release as above. */
CHECKED Status class_names_of_run(const char *folder, ClassNames *);

#endif
