/* What a user names, as inputs one after the other: files, the files in folders, lines. Nothing is read ahead but the names in the
 * folders that are open. */
#ifndef PLUMB_LAUNCH_PREDICT_INPUT_LIST_H
#define PLUMB_LAUNCH_PREDICT_INPUT_LIST_H

#include "launch/tasks/task.h"

typedef struct {
    const TaskInputs *inputs;
    /* Each is a file, a folder (its files, and those of its folders, in the order of names; names that begin with a dot are
     * passed over), or "-": the standard input, of which each line is an input. None: "-". */
    const char *const *word;
    int words;
    bool lines;         /* each line of a file is an input, also where the task has a file for one */
    int standard_input; /* descriptor */
} InputListOptions;

typedef struct {
    char *file;   /* "-": the standard input; owned, as are the others */
    int64_t line; /* from 1; 0: the input is the file */
    char *text;   /* of the line, `size` bytes; NULL: the file is to be read */
    size_t size;
    char *problem; /* why there is nothing to be had there, naming it; NULL: nothing is known of one */
} ListedInput;
void listed_input_free(ListedInput *);

typedef struct InputList InputList;
/* The words must outlive it. */
CHECKED Status input_list_open(const InputListOptions *, InputList **);
void input_list_close(InputList *); /* NULL is allowed */

/* The next one, to be released with listed_input_free. *got is false at the end, and where the next one is not there yet: a
 * line of a pipe or a terminal. What cannot be opened or listed is an input with a problem. */
CHECKED Status input_list_next(InputList *, ListedInput *, bool *got);
/* Waits until there is something to read, or so many seconds. */
CHECKED Status input_list_wait(const InputList *, double seconds);
bool input_list_ended(const InputList *);

#endif
