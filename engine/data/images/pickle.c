#include "engine/data/images/pickle.h"

#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>

/* CIFAR-100's training file has some 150,000 values; far more are not CIFAR's, and would fill the memory. */
enum { MOST_ITEMS = 1 << 20 };

typedef enum { NONE, FLAG, INTEGER, TEXT, TUPLE, LIST, DICTIONARY, NAME, TYPE, ARRAY } Kind;
static const char *const kind_name[] = {
    [NONE] = "None",         [FLAG] = "a flag",    [INTEGER] = "a whole number",  [TEXT] = "a text",
    [TUPLE] = "a tuple",     [LIST] = "a list",    [DICTIONARY] = "a dictionary", [NAME] = "a name",
    [TYPE] = "a numpy type", [ARRAY] = "an array",
};

/* What a pickle may name. */
typedef enum { RECONSTRUCT, NDARRAY, DTYPE } Global;
static const struct {
    const char *module, *name;
} globals[] = {
    [RECONSTRUCT] = {"numpy.core.multiarray", "_reconstruct"},
    [NDARRAY] = {"numpy", "ndarray"},
    [DTYPE] = {"numpy", "dtype"},
};
enum { GLOBALS = sizeof globals / sizeof *globals };

typedef struct {
    Kind kind;
    int64_t integer;     /* INTEGER, FLAG; NAME: which */
    const uint8_t *text; /* TEXT, TYPE; ARRAY: its bytes, NULL until its state is known */
    size_t size;
    int32_t *child; /* TUPLE, LIST; DICTIONARY: keys and values in turn */
    size_t children, capacity;
    PickleArray array;
} Item;

/* Values are numbers of items, which live until the pickle is freed: a value may be in many places. */
struct Pickle {
    const char *name;
    const uint8_t *bytes;
    size_t size, at, opcode_at;
    Item *item;
    size_t items, item_capacity;
    int32_t *stack; /* MARK between values */
    size_t depth, stack_capacity;
    int32_t *memo; /* -1: none */
    size_t memo_capacity;
    bool stopped;
};
enum { MARK = -1 };

typedef struct {
    uint8_t code;
    const char *name;
    Status (*run)(Pickle *, int64_t argument); /* NULL: refused */
    int64_t argument;
} Opcode;

static const Opcode *find_opcode(uint8_t code);

static Status damaged(const Pickle *pickle, const char *what)
{
    const Opcode *opcode = find_opcode(pickle->bytes[pickle->opcode_at]);
    return fail(STATUS_INPUT, "%s: byte %zu, %s: %s", pickle->name, pickle->opcode_at,
                opcode != NULL ? opcode->name : "the pickle", what);
}

/* ---- Bytes ---- */

static Status take(Pickle *pickle, size_t count, const uint8_t **bytes)
{
    if (count > pickle->size - pickle->at) return damaged(pickle, "the file is cut short");
    *bytes = pickle->bytes + pickle->at;
    pickle->at += count;
    return OK;
}

static Status take_number(Pickle *pickle, int64_t bytes, uint64_t *number)
{
    const uint8_t *at = NULL;
    *number = 0;
    TRY(take(pickle, (size_t)bytes, &at));
    for (int64_t i = 0; i < bytes; ++i)
        *number |= (uint64_t)at[i] << (8 * i);
    return OK;
}

static Status take_line(Pickle *pickle, const uint8_t **line, size_t *length)
{
    const uint8_t *start = pickle->bytes + pickle->at;
    const uint8_t *end = memchr(start, '\n', pickle->size - pickle->at);
    if (end == NULL) return damaged(pickle, "the file is cut short");
    *line = start;
    *length = (size_t)(end - start);
    pickle->at += *length + 1;
    return OK;
}

/* ---- Stack ---- */

static Status push_number(Pickle *pickle, int32_t number)
{
    TRY(memory_grow(&pickle->stack, &pickle->stack_capacity, pickle->depth + 1, sizeof *pickle->stack,
                    "a pickle"));
    pickle->stack[pickle->depth++] = number;
    return OK;
}

static Status push(Pickle *pickle, Item item)
{
    if (pickle->items == MOST_ITEMS) return damaged(pickle, "there are more values than CIFAR's files have");
    TRY(memory_grow(&pickle->item, &pickle->item_capacity, pickle->items + 1, sizeof *pickle->item,
                    "a pickle"));
    pickle->item[pickle->items] = item;
    return push_number(pickle, (int32_t)pickle->items++);
}

/* The value at the top, which must be one: neither nothing nor a mark. */
static Status top(const Pickle *pickle, int32_t *number)
{
    if (pickle->depth == 0 || pickle->stack[pickle->depth - 1] == MARK)
        return damaged(pickle, "there is no value for it");
    *number = pickle->stack[pickle->depth - 1];
    return OK;
}

static Status pop(Pickle *pickle, int32_t *number)
{
    TRY(top(pickle, number));
    --pickle->depth;
    return OK;
}

/* How many values stand above the last mark. */
static Status count_to_mark(const Pickle *pickle, size_t *count)
{
    *count = 0;
    while (*count < pickle->depth && pickle->stack[pickle->depth - 1 - *count] != MARK)
        ++*count;
    return *count < pickle->depth ? OK : damaged(pickle, "there is no mark before it");
}

/* Are there so many values at the top, with no mark between them? */
static Status check_values(const Pickle *pickle, size_t count)
{
    bool enough = count <= pickle->depth;
    for (size_t i = 0; i < count && enough; ++i)
        enough = pickle->stack[pickle->depth - 1 - i] != MARK;
    return enough ? OK : damaged(pickle, "there are too few values for it");
}

/* Moves the `count` values at the top into the item. */
static Status adopt(Pickle *pickle, size_t count, int32_t number)
{
    Item *item = &pickle->item[number];
    TRY(memory_grow(&item->child, &item->capacity, item->children + count, sizeof *item->child, "a pickle"));
    if (count > 0)
        memcpy(item->child + item->children, pickle->stack + pickle->depth - count,
               count * sizeof *item->child);
    item->children += count;
    pickle->depth -= count;
    return OK;
}

/* ---- Opcodes ---- */

static Status run_protocol(Pickle *pickle, int64_t argument)
{
    uint64_t version;
    TRY(take_number(pickle, argument, &version));
    if (version != 2) return damaged(pickle, "CIFAR's files are of protocol 2");
    return OK;
}

static Status run_stop(Pickle *pickle, int64_t argument)
{
    (void)argument;
    int32_t root;
    TRY(top(pickle, &root));
    if (pickle->depth != 1) return damaged(pickle, "more than one value is left");
    pickle->stopped = true;
    return OK;
}

static Status run_mark(Pickle *pickle, int64_t argument) { return push_number(pickle, (int32_t)argument); }
static Status run_empty(Pickle *pickle, int64_t kind) { return push(pickle, (Item){.kind = (Kind)kind}); }
static Status run_flag(Pickle *pickle, int64_t value)
{
    return push(pickle, (Item){.kind = FLAG, .integer = value});
}

static Status run_unsigned(Pickle *pickle, int64_t bytes)
{
    uint64_t number;
    TRY(take_number(pickle, bytes, &number));
    return push(pickle, (Item){.kind = INTEGER, .integer = (int64_t)number});
}

static Status run_signed(Pickle *pickle, int64_t bytes)
{
    uint64_t number;
    TRY(take_number(pickle, bytes, &number));
    return push(pickle, (Item){.kind = INTEGER, .integer = (int32_t)(uint32_t)number});
}

static Status run_text(Pickle *pickle, int64_t length_bytes)
{
    uint64_t length;
    const uint8_t *text = NULL;
    TRY(take_number(pickle, length_bytes, &length));
    TRY(take(pickle, (size_t)length, &text));
    return push(pickle, (Item){.kind = TEXT, .text = text, .size = (size_t)length});
}

/* count: of its values; -1: those above the mark. */
static Status run_tuple(Pickle *pickle, int64_t count)
{
    size_t values = (size_t)count;
    const bool marked = count < 0;
    if (marked) TRY(count_to_mark(pickle, &values));
    TRY(check_values(pickle, values));
    TRY(push(pickle, (Item){.kind = TUPLE}));
    const int32_t number = pickle->stack[--pickle->depth];
    TRY(adopt(pickle, values, number));
    if (marked) --pickle->depth;
    return push_number(pickle, number);
}

/* many: those above the mark, not one. */
static Status fill(Pickle *pickle, Kind kind, size_t values, bool many)
{
    if (many) TRY(count_to_mark(pickle, &values));
    TRY(check_values(pickle, values));
    const size_t below = values + (many ? 1 : 0);
    if (pickle->depth <= below) return damaged(pickle, "there is nothing to fill");
    const int32_t container = pickle->stack[pickle->depth - 1 - below];
    if (container == MARK || pickle->item[container].kind != kind)
        return damaged(pickle, "what it fills is something else");
    if (kind == DICTIONARY && values % 2 != 0) return damaged(pickle, "a key has no value");
    TRY(adopt(pickle, values, container));
    if (many) --pickle->depth;
    return OK;
}
static Status run_append(Pickle *pickle, int64_t many) { return fill(pickle, LIST, 1, many != 0); }
static Status run_set(Pickle *pickle, int64_t many) { return fill(pickle, DICTIONARY, 2, many != 0); }

static Status run_put(Pickle *pickle, int64_t bytes)
{
    uint64_t number;
    int32_t value = 0;
    TRY(take_number(pickle, bytes, &number));
    TRY(top(pickle, &value));
    /* Python numbers what it puts, so that no number is larger than the file. */
    if (number > pickle->size || number > MOST_ITEMS) return damaged(pickle, "the number is too large");
    const size_t before = pickle->memo_capacity;
    TRY(memory_grow(&pickle->memo, &pickle->memo_capacity, (size_t)number + 1, sizeof *pickle->memo,
                    "a pickle"));
    for (size_t i = before; i < pickle->memo_capacity; ++i)
        pickle->memo[i] = -1;
    pickle->memo[number] = value;
    return OK;
}

static Status run_get(Pickle *pickle, int64_t bytes)
{
    uint64_t number;
    TRY(take_number(pickle, bytes, &number));
    if (number >= pickle->memo_capacity || pickle->memo[number] < 0)
        return damaged(pickle, "nothing was put there");
    return push_number(pickle, pickle->memo[number]);
}

static Status run_global(Pickle *pickle, int64_t argument)
{
    (void)argument;
    const uint8_t *module, *name;
    size_t module_length, name_length;
    TRY(take_line(pickle, &module, &module_length));
    TRY(take_line(pickle, &name, &name_length));
    for (int i = 0; i < GLOBALS; ++i)
        if (module_length == strlen(globals[i].module) && name_length == strlen(globals[i].name) &&
            memcmp(module, globals[i].module, module_length) == 0 &&
            memcmp(name, globals[i].name, name_length) == 0)
            return push(pickle, (Item){.kind = NAME, .integer = i});
    enum { SHOWN = 60 };
    return fail(STATUS_INPUT, "%s: byte %zu: the pickle names %.*s.%.*s, which CIFAR's files do not",
                pickle->name, pickle->opcode_at, (int)(module_length < SHOWN ? module_length : SHOWN), module,
                (int)(name_length < SHOWN ? name_length : SHOWN), name);
}

/* A value of a tuple, or NULL. */
static const Item *member(const Pickle *pickle, const Item *tuple, size_t index, Kind kind)
{
    if (tuple->kind != TUPLE || index >= tuple->children) return NULL;
    const Item *item = &pickle->item[tuple->child[index]];
    return item->kind == kind ? item : NULL;
}

/* _reconstruct(ndarray, ...) is an array whose state follows; dtype("u1", ...) is a type. */
static Status run_reduce(Pickle *pickle, int64_t argument)
{
    (void)argument;
    int32_t values = 0, callable = 0;
    TRY(pop(pickle, &values));
    TRY(pop(pickle, &callable));
    const Item *called = &pickle->item[callable], *tuple = &pickle->item[values];
    const Item *type = member(pickle, tuple, 0, TEXT), *class = member(pickle, tuple, 0, NAME);
    if (called->kind == NAME && called->integer == RECONSTRUCT && class != NULL && class->integer == NDARRAY)
        return push(pickle, (Item){.kind = ARRAY});
    if (called->kind == NAME && called->integer == DTYPE && type != NULL)
        return push(pickle, (Item){.kind = TYPE, .text = type->text, .size = type->size});
    return damaged(pickle, "this is not how numpy's arrays begin");
}

/* An array's state is (1, (rows, columns), type, Fortran order?, bytes). */
static Status set_array(Pickle *pickle, Item *array, const Item *state)
{
    const Item *shape = member(pickle, state, 1, TUPLE), *type = member(pickle, state, 2, TYPE);
    const Item *order = member(pickle, state, 3, FLAG), *bytes = member(pickle, state, 4, TEXT);
    if (shape == NULL || type == NULL || order == NULL || bytes == NULL)
        return damaged(pickle, "this is not the state of an array");
    if (type->size != 2 || memcmp(type->text, "u1", 2) != 0)
        return damaged(pickle, "the array is not of bytes (uint8)");
    const Item *rows = member(pickle, shape, 0, INTEGER), *columns = member(pickle, shape, 1, INTEGER);
    if (shape->children != 2 || rows == NULL || columns == NULL)
        return damaged(pickle, "the array has not two dimensions");
    const uint64_t size = bytes->size;
    if (rows->integer < 1 || columns->integer < 1 || (uint64_t)columns->integer > size ||
        size % (uint64_t)columns->integer != 0 ||
        size / (uint64_t)columns->integer != (uint64_t)rows->integer)
        return damaged(pickle, "the array's bytes are not as many as its shape says");
    array->text = bytes->text;
    array->array = (PickleArray){.data = bytes->text,
                                 .rows = rows->integer,
                                 .columns = columns->integer,
                                 .columns_first = order->integer != 0};
    return OK;
}

static Status run_build(Pickle *pickle, int64_t argument)
{
    (void)argument;
    int32_t state = 0, object = 0;
    TRY(pop(pickle, &state));
    TRY(top(pickle, &object));
    Item *item = &pickle->item[object];
    if (item->kind == TYPE) return OK; /* the order of its bytes, of which there is one */
    if (item->kind == ARRAY) return set_array(pickle, item, &pickle->item[state]);
    return damaged(pickle, "only arrays and their types have a state");
}

/* All opcodes up to protocol 5, so that those which are refused have a name. */
static const Opcode opcodes[] = {
    {0x80, "PROTO", run_protocol, 1},
    {'.', "STOP", run_stop, 0},
    {'(', "MARK", run_mark, MARK},
    {'N', "NONE", run_empty, NONE},
    {0x88, "NEWTRUE", run_flag, 1},
    {0x89, "NEWFALSE", run_flag, 0},
    {'J', "BININT", run_signed, 4},
    {'K', "BININT1", run_unsigned, 1},
    {'M', "BININT2", run_unsigned, 2},
    {'T', "BINSTRING", run_text, 4},
    {'U', "SHORT_BINSTRING", run_text, 1},
    {'X', "BINUNICODE", run_text, 4},
    {')', "EMPTY_TUPLE", run_empty, TUPLE},
    {0x85, "TUPLE1", run_tuple, 1},
    {0x86, "TUPLE2", run_tuple, 2},
    {0x87, "TUPLE3", run_tuple, 3},
    {'t', "TUPLE", run_tuple, -1},
    {']', "EMPTY_LIST", run_empty, LIST},
    {'a', "APPEND", run_append, 0},
    {'e', "APPENDS", run_append, 1},
    {'}', "EMPTY_DICT", run_empty, DICTIONARY},
    {'s', "SETITEM", run_set, 0},
    {'u', "SETITEMS", run_set, 1},
    {'q', "BINPUT", run_put, 1},
    {'r', "LONG_BINPUT", run_put, 4},
    {'h', "BINGET", run_get, 1},
    {'j', "LONG_BINGET", run_get, 4},
    {'c', "GLOBAL", run_global, 0},
    {'R', "REDUCE", run_reduce, 0},
    {'b', "BUILD", run_build, 0},
    {'0', "POP", NULL, 0},
    {'1', "POP_MARK", NULL, 0},
    {'2', "DUP", NULL, 0},
    {'F', "FLOAT", NULL, 0},
    {'G', "BINFLOAT", NULL, 0},
    {'I', "INT", NULL, 0},
    {'L', "LONG", NULL, 0},
    {'S', "STRING", NULL, 0},
    {'V', "UNICODE", NULL, 0},
    {'P', "PERSID", NULL, 0},
    {'Q', "BINPERSID", NULL, 0},
    {'d', "DICT", NULL, 0},
    {'l', "LIST", NULL, 0},
    {'g', "GET", NULL, 0},
    {'p', "PUT", NULL, 0},
    {'i', "INST", NULL, 0},
    {'o', "OBJ", NULL, 0},
    {0x81, "NEWOBJ", NULL, 0},
    {0x82, "EXT1", NULL, 0},
    {0x83, "EXT2", NULL, 0},
    {0x84, "EXT4", NULL, 0},
    {0x8a, "LONG1", NULL, 0},
    {0x8b, "LONG4", NULL, 0},
    {'B', "BINBYTES", NULL, 0},
    {'C', "SHORT_BINBYTES", NULL, 0},
    {0x8c, "SHORT_BINUNICODE", NULL, 0},
    {0x8d, "BINUNICODE8", NULL, 0},
    {0x8e, "BINBYTES8", NULL, 0},
    {0x8f, "EMPTY_SET", NULL, 0},
    {0x90, "ADDITEMS", NULL, 0},
    {0x91, "FROZENSET", NULL, 0},
    {0x92, "NEWOBJ_EX", NULL, 0},
    {0x93, "STACK_GLOBAL", NULL, 0},
    {0x94, "MEMOIZE", NULL, 0},
    {0x95, "FRAME", NULL, 0},
    {0x96, "BYTEARRAY8", NULL, 0},
    {0x97, "NEXT_BUFFER", NULL, 0},
    {0x98, "READONLY_BUFFER", NULL, 0},
};

static const Opcode *find_opcode(uint8_t code)
{
    for (size_t i = 0; i < sizeof opcodes / sizeof *opcodes; ++i)
        if (opcodes[i].code == code) return &opcodes[i];
    return NULL;
}

static Status run(Pickle *pickle)
{
    while (!pickle->stopped) {
        if (pickle->at == pickle->size)
            return fail(STATUS_INPUT, "%s: the pickle is cut short at byte %zu", pickle->name, pickle->size);
        pickle->opcode_at = pickle->at;
        const uint8_t code = pickle->bytes[pickle->at++];
        const Opcode *opcode = find_opcode(code);
        if (opcode == NULL)
            return fail(STATUS_INPUT, "%s: byte %zu: %d is no opcode of a pickle", pickle->name,
                        pickle->opcode_at, code);
        if (opcode->run == NULL)
            return damaged(pickle,
                           "CIFAR's files, as Python 2 wrote them, have no such opcode; what could run "
                           "code is not read");
        TRY(opcode->run(pickle, opcode->argument));
    }
    return OK;
}

Status pickle_parse(const char *name, const uint8_t *bytes, size_t size, Pickle **out)
{
    *out = NULL;
    if (size == 0 || bytes[0] != 0x80) return fail(STATUS_INPUT, "%s: not a pickle of protocol 2", name);
    Pickle *pickle;
    TRY(memory_new(&pickle, 1, sizeof *pickle, "a pickle"));
    pickle->name = name;
    pickle->bytes = bytes;
    pickle->size = size;
    Status status = run(pickle);
    if (status == OK && pickle->item[pickle->stack[0]].kind != DICTIONARY)
        status = fail(STATUS_INPUT, "%s: the pickle is %s; CIFAR's are dictionaries", name,
                      kind_name[pickle->item[pickle->stack[0]].kind]);
    if (status != OK) {
        pickle_free(pickle);
        return status;
    }
    *out = pickle;
    return OK;
}

void pickle_free(Pickle *pickle)
{
    if (pickle == NULL) return;
    for (size_t i = 0; i < pickle->items; ++i)
        free(pickle->item[i].child);
    free(pickle->item);
    free(pickle->stack);
    free(pickle->memo);
    free(pickle);
}

/* ---- What the pickle holds ---- */

static Status find(const Pickle *pickle, const char *key, Kind kind, const Item **value)
{
    const Item *root = &pickle->item[pickle->stack[0]];
    const Item *found = NULL;
    for (size_t i = 0; i < root->children; i += 2) {
        const Item *name = &pickle->item[root->child[i]];
        if (name->kind == TEXT && name->size == strlen(key) && memcmp(name->text, key, name->size) == 0)
            found = &pickle->item[root->child[i + 1]];
    }
    if (found == NULL) return fail(STATUS_INPUT, "%s: the dictionary holds no \"%s\"", pickle->name, key);
    if (found->kind != kind)
        return fail(STATUS_INPUT, "%s: \"%s\" is %s, not %s", pickle->name, key, kind_name[found->kind],
                    kind_name[kind]);
    *value = found;
    return OK;
}

Status pickle_integers(const Pickle *pickle, const char *key, int64_t **values, int64_t *count)
{
    *values = NULL;
    *count = 0;
    const Item *list;
    TRY(find(pickle, key, LIST, &list));
    TRY(memory_new(values, list->children, sizeof **values, key));
    for (size_t i = 0; i < list->children; ++i) {
        const Item *item = &pickle->item[list->child[i]];
        if (item->kind != INTEGER) {
            free(*values);
            *values = NULL;
            return fail(STATUS_INPUT, "%s: \"%s\", item %zu is %s, not a whole number", pickle->name, key, i,
                        kind_name[item->kind]);
        }
        (*values)[i] = item->integer;
    }
    *count = (int64_t)list->children;
    return OK;
}

Status pickle_array(const Pickle *pickle, const char *key, PickleArray *array)
{
    const Item *item;
    TRY(find(pickle, key, ARRAY, &item));
    if (item->text == NULL)
        return fail(STATUS_INPUT, "%s: \"%s\" is an array without data", pickle->name, key);
    *array = item->array;
    return OK;
}
