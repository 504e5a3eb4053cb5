#include "nlp/sentencepiece_file.h"

#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>

/* The file is a protocol buffer (sentencepiece_model.proto): fields of a number and a type, in any order. */
enum { MODEL_PIECES = 1, MODEL_TRAINER = 2, MODEL_NORMALISER = 3, MODEL_DENORMALISER = 5 };
enum { PIECE_TEXT = 1, PIECE_TYPE = 3 };
enum { TYPE_NORMAL = 1, TYPE_USER_DEFINED = 4 };
enum { TRAINER_TYPE = 3, TRAINER_SPACE_BEHIND = 24 };
enum { TRAINER_BPE = 2 };
enum {
    NORMALISER_MAP = 2,
    NORMALISER_SPACE_IN_FRONT = 3,
    NORMALISER_FOLD_SPACES = 4,
    NORMALISER_MARK_SPACES = 5
};
enum { WIRE_VARINT = 0, WIRE_64_BIT = 1, WIRE_BYTES = 2, WIRE_32_BIT = 5 };

static const char space_mark[] = "\xE2\x96\x81"; /* U+2581 */
enum { SPACE_MARK = sizeof space_mark - 1 };

typedef struct {
    const uint8_t *at, *end;
} Bytes;

typedef struct {
    int64_t number;
    uint64_t value; /* of WIRE_VARINT; else 0 */
    Bytes bytes;    /* of WIRE_BYTES; else empty */
} ProtoField;

static bool read_varint(Bytes *bytes, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; shift < 64 && bytes->at < bytes->end; shift += 7) {
        const uint8_t byte = *bytes->at++;
        *value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) return true;
    }
    return false;
}

/* false: the bytes are no field. */
static bool read_field(Bytes *bytes, ProtoField *field)
{
    uint64_t tag, size = 0;
    *field = (ProtoField){.number = 0};
    if (!read_varint(bytes, &tag) || tag >> 3 == 0 || tag >> 3 > INT32_MAX) return false;
    field->number = (int64_t)(tag >> 3);
    switch (tag & 7) {
    case WIRE_VARINT:
        return read_varint(bytes, &field->value);
    case WIRE_64_BIT:
        size = 8;
        break;
    case WIRE_32_BIT:
        size = 4;
        break;
    case WIRE_BYTES:
        if (!read_varint(bytes, &size)) return false;
        break;
    default:
        return false;
    }
    if (size > (uint64_t)(bytes->end - bytes->at)) return false;
    if ((tag & 7) == WIRE_BYTES) field->bytes = (Bytes){bytes->at, bytes->at + size};
    bytes->at += size;
    return true;
}

/* ---- the table of the normalisation ---- */

/* A double-array trie (Darts-clone) in units of 32 bits, and the texts that its values are offsets in. */
typedef struct {
    const uint8_t *unit; /* not aligned */
    uint32_t units;
    const uint8_t *text;
    size_t text_size;
} Charsmap;

static uint32_t read_u32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint32_t unit_at(const Charsmap *map, uint32_t i) { return read_u32(map->unit + 4 * (size_t)i); }
static uint32_t unit_offset(uint32_t unit) { return (unit >> 10) << ((unit & (1U << 9)) >> 6); }
static bool unit_has_leaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
static uint32_t unit_label(uint32_t unit) { return unit & (1U << 31 | 0xFF); }
static uint32_t unit_value(uint32_t unit) { return unit & ~(1U << 31); }

static Status charsmap_damaged(const char *name)
{
    return fail(STATUS_INPUT, "%s is damaged: its table of normalisation leads out of itself", name);
}

/* A unit that a walk may come to. */
typedef struct {
    uint32_t unit;
    bool first; /* nothing was read before it */
} Visit;

typedef struct {
    const Charsmap *map;
    uint8_t *seen; /* [units] */
    Visit *open;   /* [units] to be looked at */
    uint32_t opened;
    bool rule_with_space; /* besides that of the space alone */
} Walk;

/* The units that may follow. The library looks for any of 256 bytes there. */
static bool follow(Walk *walk, Visit visit)
{
    const Charsmap *map = walk->map;
    const uint32_t unit = unit_at(map, visit.unit), base = visit.unit ^ unit_offset(unit);
    if ((base | 0xFF) >= map->units) return false;
    if (unit_has_leaf(unit) && unit_value(unit_at(map, base)) >= map->text_size) return false;
    for (uint32_t byte = 1; byte < 256; ++byte) {
        const uint32_t next = base ^ byte;
        if (unit_label(unit_at(map, next)) != byte) continue;
        if (!visit.first && (byte == ' ' || unit_label(unit) == ' ')) walk->rule_with_space = true;
        if (walk->seen[next] != 0) continue;
        walk->seen[next] = 1;
        walk->open[walk->opened++] = (Visit){next, false};
    }
    return true;
}

static Status walk_charsmap(const char *name, Walk *walk)
{
    const uint32_t units = walk->map->units;
    TRY(memory_new(&walk->seen, units, 1, "a table of normalisation"));
    TRY(memory_new(&walk->open, units, sizeof *walk->open, "a table of normalisation"));
    walk->seen[0] = 1;
    walk->open[walk->opened++] = (Visit){0, true};
    while (walk->opened > 0)
        if (!follow(walk, walk->open[--walk->opened])) return charsmap_damaged(name);
    return OK;
}

static Status check_charsmap(const char *name, Bytes bytes, bool *rule_with_space)
{
    const size_t size = (size_t)(bytes.end - bytes.at);
    *rule_with_space = false;
    if (size == 0) return OK;
    const uint32_t trie = size > 4 ? read_u32(bytes.at) : 0;
    if (trie < 4 || trie % 4 != 0 || trie >= size - 4 || bytes.end[-1] != 0) return charsmap_damaged(name);
    const Charsmap map = {
        .unit = bytes.at + 4, .units = trie / 4, .text = bytes.at + 4 + trie, .text_size = size - 4 - trie};
    Walk walk = {.map = &map};
    Status status = walk_charsmap(name, &walk);
    *rule_with_space = walk.rule_with_space;
    free(walk.seen);
    free(walk.open);
    return status;
}

/* ---- the file ---- */

typedef struct {
    const char *name;
    int64_t pieces;
    bool has_space, space_inside, user_defined; /* among the pieces */
    uint64_t type;
    bool space_behind;
    bool in_front, fold, mark; /* what the normalisation does to spaces */
    bool rule_with_space;
} Reading;

static Status not_a_model(const char *name)
{
    return fail(STATUS_INPUT, "%s is no SentencePiece model, or is cut short", name);
}

static bool has_space_after_start(Bytes text)
{
    for (const uint8_t *at = text.at + 1; at < text.end && text.end - at >= SPACE_MARK; ++at)
        if (memcmp(at, space_mark, SPACE_MARK) == 0) return true;
    return false;
}

static Status read_piece(Reading *reading, Bytes bytes)
{
    Bytes text = {NULL, NULL};
    uint64_t type = TYPE_NORMAL;
    while (bytes.at < bytes.end) {
        ProtoField field;
        if (!read_field(&bytes, &field)) return not_a_model(reading->name);
        if (field.number == PIECE_TEXT) text = field.bytes;
        if (field.number == PIECE_TYPE) type = field.value;
    }
    ++reading->pieces;
    if (type == TYPE_USER_DEFINED) reading->user_defined = true;
    if (type == TYPE_NORMAL && text.end - text.at == SPACE_MARK &&
        memcmp(text.at, space_mark, SPACE_MARK) == 0)
        reading->has_space = true;
    if (text.at != NULL && has_space_after_start(text)) reading->space_inside = true;
    return OK;
}

static Status read_trainer(Reading *reading, Bytes bytes)
{
    while (bytes.at < bytes.end) {
        ProtoField field;
        if (!read_field(&bytes, &field)) return not_a_model(reading->name);
        if (field.number == TRAINER_TYPE) reading->type = field.value;
        if (field.number == TRAINER_SPACE_BEHIND) reading->space_behind = field.value != 0;
    }
    return OK;
}

static Status read_normaliser(Reading *reading, Bytes bytes, bool of_input)
{
    while (bytes.at < bytes.end) {
        ProtoField field;
        bool rule_with_space = false;
        if (!read_field(&bytes, &field)) return not_a_model(reading->name);
        if (field.number == NORMALISER_MAP) TRY(check_charsmap(reading->name, field.bytes, &rule_with_space));
        if (!of_input) continue;
        if (rule_with_space) reading->rule_with_space = true;
        if (field.number == NORMALISER_SPACE_IN_FRONT) reading->in_front = field.value != 0;
        if (field.number == NORMALISER_FOLD_SPACES) reading->fold = field.value != 0;
        if (field.number == NORMALISER_MARK_SPACES) reading->mark = field.value != 0;
    }
    return OK;
}

static Status read_file(Reading *reading, Bytes bytes)
{
    while (bytes.at < bytes.end) {
        ProtoField field;
        if (!read_field(&bytes, &field)) return not_a_model(reading->name);
        if (field.number == MODEL_PIECES) TRY(read_piece(reading, field.bytes));
        if (field.number == MODEL_TRAINER) TRY(read_trainer(reading, field.bytes));
        if (field.number == MODEL_NORMALISER) TRY(read_normaliser(reading, field.bytes, true));
        if (field.number == MODEL_DENORMALISER) TRY(read_normaliser(reading, field.bytes, false));
    }
    return OK;
}

Status sentencepiece_file_check(const char *name, const void *bytes, size_t size, SentencePieceFile *file)
{
    *file = (SentencePieceFile){.pieces = 0};
    if (size == 0) return fail(STATUS_INPUT, "%s is empty: it should be a SentencePiece model", name);
    if (size > INT32_MAX) return fail(STATUS_INPUT, "%s is no SentencePiece model: it is too large", name);
    Reading reading = {
        .name = name, .in_front = true, .fold = true, .mark = true}; /* the format's defaults */
    const uint8_t *start = bytes;
    TRY(read_file(&reading, (Bytes){start, start + size}));
    if (reading.pieces == 0) return not_a_model(name);
    file->pieces = reading.pieces;
    file->word_by_word = reading.type == TRAINER_BPE && reading.has_space && !reading.space_inside &&
                         !reading.user_defined && !reading.space_behind && reading.in_front && reading.fold &&
                         reading.mark && !reading.rule_with_space;
    return OK;
}
