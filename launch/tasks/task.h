/* A task: what kind of samples an experiment is about. One row of the table in tasks.c, one file in this folder.
 *
 * The trainer, evaluation, sweeps and reports know tasks through this interface alone. A task says how its data are
 * described without opening them (so that a sweep is checked before it starts), how they become batches, and how a
 * batch shape becomes the graph of a network. Which task an experiment is follows from dataset.name. */
#ifndef PLUMB_LAUNCH_TASKS_TASK_H
#define PLUMB_LAUNCH_TASKS_TASK_H

#include "engine/base/config.h"
#include "engine/base/safetensors.h"
#include "engine/data/source.h"
#include "engine/device/device.h"
#include "engine/graph/graph.h"
#include "engine/plan/plan.h"
#include "models/model.h"

typedef struct Task Task;

/* Whose part of the batches: this rank's of so many. */
typedef struct {
    int rank, ranks;
    bool training; /* else only evaluation: the batch of training need not fit the ranks */
    bool goes_on;  /* training takes all parameters from a checkpoint */
} TaskShare;

/* What is known of an experiment's data: first what the config says, then, once loaded, the samples. A task puts its own
 * struct around this one. */
typedef struct TaskData {
    const Task *task;
    const char *dataset;        /* its name */
    int64_t classes;            /* of the logits */
    int64_t batch;              /* samples a step, over all ranks; of translation tokens */
    int64_t count[SPLIT_COUNT]; /* samples of each split; 0 until loaded */
    uint64_t
        vocabulary_hash; /* of the words behind the ids; a checkpoint is of one vocabulary. 0: there is none */
    const uint8_t *masked; /* [classes]: 1 for classes that evaluation leaves out; NULL: none */
    const char *const
        *class_name; /* [classes]; NULL: they have no names, or these are not known before loading */
    /* Labels in the split's order, [count]; NULL until loaded, and of tokens, whose logits are measured as they come. */
    const int32_t *label[SPLIT_COUNT];
} TaskData;

enum { GROUPS_MOST = 10 };

/* A way to part the rows of an evaluation. */
typedef struct {
    const char *name; /* "position" */
    int groups;
    const char *group[GROUPS_MOST]; /* "1", "2-3", ... */
} GroupKind;

typedef struct {
    const char *name; /* "cifar10" */
    const char *help;
} TaskDataset;

/* What samples from outside are. */
typedef struct {
    bool made; /* made here, not read */
    char text[256];
} TaskNote;

/* ---- samples that a user gives: plumb predict ---- */

/* How they are wanted. */
typedef struct {
    int64_t rows;       /* the most samples of a part */
    bool resize;        /* scale images of another size, which are refused otherwise */
    bool deterministic; /* the same bits whatever samples are taken together */
} InputOptions;

/* Where a sample comes from, for messages. */
typedef struct {
    const char *file; /* "-": the standard input */
    int64_t line;     /* from 1; 0: the sample is the file */
} InputPlace;
enum { INPUT_PLACE_TEXT = 512 };
/* "FILE:LINE" or "FILE"; of a longer name the end. Returns text. */
const char *input_place_text(InputPlace, char text[INPUT_PLACE_TEXT]);

/* A sample as its task keeps it. */
typedef struct {
    int64_t size;  /* samples of like sizes are taken together: words, nodes; 1 of images */
    void *content; /* one block, to be released with free() */
} InputSample;

/* How a task takes samples that are in no data set. The data are then never loaded: `open` comes instead. */
typedef struct {
    const char *one, *many; /* "image", "images" */
    bool lines; /* a file holds a sample a line; else a file is a sample, unless the user says otherwise */
    bool line_is_path; /* such a line is the path of a file, not the sample itself */
    bool resizes;      /* InputOptions.resize means something */
    size_t most_bytes; /* of a file */
    int ahead;         /* samples that differ in size are sorted by it: out of so many parts' worth of them */
    /* Of the files in a folder that the user names: is one with this name meant? */
    bool (*has_name)(const char *name);
    /* Makes described data ready without the data set, of what the run's folder holds: vocabulary, number and names of
     * classes. STATUS_INPUT names a file of the run that is missing. Not collective. */
    Status (*open)(TaskData *, const Config *, const char *run, const InputOptions *);
    /* The shapes of parts, the largest first; how many. After open. Their fields are those of the test split's shapes. */
    int (*shapes)(const TaskData *, BatchShape shape[BATCH_MAX_SHAPES]);
    /* Reads a sample: the bytes of a file, or a line without its end. STATUS_INPUT names the place and what is wrong. Any
     * thread. */
    Status (*read)(const TaskData *, InputPlace, const char *bytes, size_t size, InputSample *);
    /* Chooses the part's shape, one of `shapes`, and fills its fields with the first of `count` samples, which come by falling
     * size: as many as have room, which is at least one; the field "sample" says which of them a row of weight 1 is. */
    Status (*fill)(const TaskData *, const BatchShape shapes[], int shape_count,
                   const InputSample *const sample[], int64_t count, BatchPart *, int64_t *taken);
} TaskInputs;

struct Task {
    const char *name; /* "images" */
    const char *unit; /* what throughput counts: "images" */
    bool streams;     /* there are too many logits to keep: an evaluation measures them as they come */
    bool translates;  /* a run can be asked for translations, which a search makes: plumb translate, BLEU */
    const char *rate; /* its name in metrics.jsonl; NULL: "samples_per_second" */
    ModelInput input; /* which networks fit */
    const char *best; /* the measure of the validation split by which checkpoint.best: auto chooses a model */
    /* The data sets: index 0, 1, ...; false after the last. */
    bool (*dataset)(int index, TaskDataset *);
    /* The data set that the config names (one of this task's), by its settings alone: reads all settings of the data,
     * the batches and the augmentation, opens nothing. The network's options outlive the data. Release with
     * task_data_free. */
    Status (*describe)(const Config *, TaskShare, const ModelOptions *, TaskData **);
    /* All that loading depends on, as text: what was loaded once under this text can be loaded. Release with free(). */
    Status (*identity)(const TaskData *, char **text);
    /* Reads the samples. Not collective. */
    Status (*load)(TaskData *, const Config *);
    /* Puts on the device what stays there for the whole run. After load; may be NULL. */
    Status (*place)(TaskData *, Device *);
    /* Gives parameters their first values where these come from the data, such as word vectors. Before training, and
     * before `init:` and checkpoints are read; may be NULL. */
    Status (*initialise)(TaskData *, Store *);
    /* Writes what belongs to the run beside its checkpoints, such as the vocabulary. Rank 0, before training; may be
     * NULL. */
    Status (*write_files)(const TaskData *, const char *folder);
    /* That the loaded data fit what write_files wrote of the run that is to be measured on them; may be NULL. */
    Status (*check_files)(const TaskData *, const char *folder);
    /* That the loaded data are those that the run has trained on so far, by what write_files wrote: STATUS_INPUT names what has
     * changed. Before training goes on; may be NULL. */
    Status (*check_resumed)(const TaskData *, const char *folder);
    /* The name of such a file by whose path a setting can be replaced, so that the run is evaluated without what it was
     * made of; NULL: there is none. */
    const char *(*run_file)(const Config *, const char **setting);
    void (*free)(TaskData *);

    /* The shapes of a rank's parts, the largest first; how many. Needs no samples. */
    int (*shapes)(const TaskData *, Split, bool training, BatchShape shape[BATCH_MAX_SHAPES]);
    /* The batches of a split, in those shapes. Needs samples. */
    Status (*source)(TaskData *, Split, bool training, Source **);
    /* Appends inputs under the names of the shape's fields, and the network. -> logits FLOAT32 [rows, classes]. Inputs
     * named "target" (INT32 [rows]) and "weight" (FLOAT32 [rows]) are the program's. In evaluation the rows of weight 1
     * are those that are measured, one a sample; the field "sample" (INT64 [rows]) says whose they are. */
    Value (*build)(Graph *, const TaskData *, const ModelOptions *, Split, const BatchShape *);
    /* Opens samples that are not of the data set, in the form of its test split, which they have in the new data: those that `name`
     * and `from` say (engine/data/images/outside.h), with a note of what they are. `own` is loaded, placed, and outlives them.
     * Release with task_data_free. Not collective; NULL: the task has none. */
    Status (*outside)(TaskData *own, Device *, const char *name, const char *from, TaskNote *, TaskData **);
    /* That they seem to be there, before anything is read. With `outside`. */
    Status (*outside_check)(const char *name, const char *from);
    /* In which ways evaluation parts the rows that it measures; how many ways. May be NULL. */
    int (*group_kinds)(const GroupKind **);
    /* The group of a row of the part, whose weight is 1. After load. */
    int (*group)(const TaskData *, Split, int kind, const BatchShape *, const BatchPart *, int64_t row);
    /* Binds the inputs that lie on the device for the whole run; may be NULL. After place. */
    void (*bind)(const TaskData *, Split, const Graph *, Plan *);
    /* Samples that a user gives; NULL: the task predicts no classes, and `instead` says which command its runs are for. */
    const TaskInputs *inputs;
    const char *instead;
};

/* The table of tasks. */
const Task *const *tasks_table(int *count);
/* The task whose data set dataset.name names. STATUS_INPUT names file and line, and the nearest known name. */
CHECKED Status task_find(const Config *, const Task **);
void task_data_free(TaskData *); /* NULL is allowed */
/* The place of class k among those that evaluation does not leave out; of `classes` their number. */
int64_t task_measured_class(const uint8_t *masked, int64_t k);

/* The hash of the vocabulary as checkpoints hold it, under the key "vocabulary"; "" for data without one. */
enum { VOCABULARY_TEXT = 20 };
void task_vocabulary_text(const TaskData *, char text[VOCABULARY_TEXT]);
/* STATUS_INPUT for a checkpoint that was trained with another vocabulary: its rows are other words. */
CHECKED Status task_check_vocabulary(const TaskData *, const SafeFile *checkpoint);

/* ---- for tasks whose steps take a fixed number of samples ---- */

/* batch, micro_batches and evaluate_batch: that ranks and parts can share them. */
typedef struct {
    SampleBatches train, evaluate;
} TaskBatches;
CHECKED Status task_read_batches(const Config *, TaskShare, TaskBatches *);

/* ---- for tasks whose rows are samples that a user gives ---- */

/* The numbers of rows that parts have, falling: few samples do not wait for the work of many, and of deterministic ones there
 * is one number. */
enum { INPUT_ROW_COUNTS = 3 };
int input_rows(const InputOptions *, int64_t rows[INPUT_ROW_COUNTS]);
/* Fields of a part of which row i < `taken` is sample i: "weight" and "sample"; "target" means nothing. */
void input_mark_rows(const BatchShape *, int64_t taken, BatchPart *);

/* The tasks. */
extern const Task images_task, documents_task, trees_task, translation_task;

#endif
