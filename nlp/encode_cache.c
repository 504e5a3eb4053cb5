#include "nlp/encode_cache.h"

#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "nlp/make_once.h"

#include <inttypes.h>
#include <limits.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

enum { VERSION = 2 };

/* The file: a header, `pairs` + 1 entries, ids of `width` bytes; numbers as the processor has them (little-endian). */
typedef struct {
    char magic[8];
    uint32_t version, width;
    uint64_t identity;
    int64_t pairs, ids;
    int64_t tokens[SIDES], unknown[SIDES], changed[SIDES];
    uint64_t checksum; /* XXH3 of all that follows the header, with the header's bytes before this as seed */
} Header;
/* Where a pair's ids begin: those of the source, then those of the target, up to the next entry. */
typedef struct {
    uint32_t start, source;
} Entry;
_Static_assert(sizeof(Header) == 96 && sizeof(Entry) == 8, "the format has no padding");

static const char magic[8] = {'p', 'l', 'u', 'm', 'b', 'i', 'd', 's'};

struct EncodedBlock {
    FileMap map;
    Header header;
    const Entry *entry;
    const uint8_t *ids;
};

/* ---- reading ---- */

static uint64_t checksum_of(const Header *header, const void *body, size_t size)
{
    const uint64_t seed = XXH3_64bits(header, offsetof(Header, checksum));
    return XXH3_64bits_withSeed(body, size, seed);
}

static Status check_entries(const char *name, const Header *header, const uint8_t *bytes)
{
    Entry before = {0, 0};
    memcpy(&before, bytes, sizeof before);
    bool good = before.start == 0;
    for (int64_t i = 1; i <= header->pairs && good; ++i) {
        Entry next;
        memcpy(&next, bytes + (size_t)i * sizeof next, sizeof next);
        good = next.start >= before.start && before.source <= next.start - before.start;
        before = next;
    }
    if (!good || before.start != header->ids)
        return fail(STATUS_INPUT, "%s is damaged: its places do not fit its ids", name);
    return OK;
}

Status encoded_block_check(const char *name, const void *bytes, size_t size, uint64_t identity)
{
    Header header;
    if (size < sizeof header || memcmp(bytes, magic, sizeof magic) != 0)
        return fail(STATUS_INPUT, "%s is no encoded corpus, or is cut short", name);
    memcpy(&header, bytes, sizeof header);
    if (header.version != VERSION)
        return fail(STATUS_INPUT, "%s is of version %u; this plumb reads %d", name, header.version,
                    (int)VERSION);
    if (header.identity != identity)
        return fail(STATUS_INPUT, "%s is of another corpus or other subwords", name);
    if ((header.width != 2 && header.width != 4) || header.pairs < 0 || header.pairs > CORPUS_BLOCK ||
        header.ids < 0 || header.ids > UINT32_MAX)
        return fail(STATUS_INPUT, "%s is damaged: its header is wrong", name);
    const size_t entries = ((size_t)header.pairs + 1) * sizeof(Entry);
    if (size != sizeof header + entries + (size_t)header.ids * header.width)
        return fail(STATUS_INPUT, "%s is cut short, or has bytes too many", name);
    const uint8_t *body = (const uint8_t *)bytes + sizeof header;
    if (checksum_of(&header, body, size - sizeof header) != header.checksum)
        return fail(STATUS_INPUT, "%s is damaged: its checksum is wrong", name);
    return check_entries(name, &header, body);
}

static Status map_block(const char *path, uint64_t identity, EncodedBlock *block)
{
    TRY(file_map(path, &block->map));
    Status status = encoded_block_check(path, block->map.data, block->map.size, identity);
    if (status != OK) {
        file_unmap(&block->map);
        return status;
    }
    memcpy(&block->header, block->map.data, sizeof block->header);
    const uint8_t *body = block->map.data + sizeof block->header;
    block->entry = (const Entry *)(const void *)body; /* aligned: a map begins at a page */
    block->ids = body + ((size_t)block->header.pairs + 1) * sizeof(Entry);
    return OK;
}

/* ---- encoding ---- */

typedef struct {
    const EncodeOptions *options;
    uint64_t identity;
    const char *const *path; /* [blocks] */
    EncodedBlock *block;
    int64_t number;          /* the one that is to be made */
    SubwordEncoder *encoder; /* this thread's */
    bool encoded;
} Work;

typedef struct {
    uint8_t *bytes; /* of the file */
    size_t size, capacity;
    Header header;
} Output;

static Status add_ids(const TokenIds *ids, int side, Output *output)
{
    Header *header = &output->header;
    const size_t more = ids->count * header->width;
    if (header->ids + (int64_t)ids->count > UINT32_MAX)
        return fail(STATUS_UNSUPPORTED, "a block of more than 2^32 ids");
    TRY(memory_grow(&output->bytes, &output->capacity, output->size + more, 1, "encoded lines"));
    for (size_t i = 0; i < ids->count; ++i) {
        const uint16_t narrow = (uint16_t)ids->id[i];
        if (header->width == 2)
            memcpy(output->bytes + output->size + 2 * i, &narrow, 2);
        else
            memcpy(output->bytes + output->size + 4 * i, &ids->id[i], 4);
        header->unknown[side] += ids->id[i] == SUBWORD_UNKNOWN;
    }
    output->size += more;
    header->ids += (int64_t)ids->count;
    header->tokens[side] += (int64_t)ids->count;
    return OK;
}

static Status encode_line(Work *work, TextSpan line, int side, TokenIds *ids, Output *output)
{
    bool changed;
    TRY(subword_encoder_encode(work->encoder, line, ids, &changed));
    output->header.changed[side] += changed;
    return add_ids(ids, side, output);
}

static Status encode_pair(Work *work, const TextSpan pair[SIDES], Entry *entry, TokenIds *ids, Output *output)
{
    entry->start = (uint32_t)output->header.ids;
    TRY(encode_line(work, pair[SOURCE_SIDE], SOURCE_SIDE, ids, output));
    entry->source = (uint32_t)(output->header.ids - entry->start);
    return encode_line(work, pair[TARGET_SIDE], TARGET_SIDE, ids, output);
}

static Status encode_lines(Work *work, int64_t pairs, TokenIds *ids, Output *output)
{
    const ParallelCorpus *corpus = work->options->corpus;
    CorpusPlace place = corpus->block[work->number];
    TextSpan pair[SIDES];
    output->size = sizeof output->header + ((size_t)pairs + 1) * sizeof(Entry);
    TRY(memory_grow(&output->bytes, &output->capacity, output->size, 1, "encoded lines"));
    for (int64_t i = 0; i <= pairs; ++i) {
        Entry entry = {.start = (uint32_t)output->header.ids};
        if (i < pairs) {
            (void)parallel_corpus_next(corpus, &place, pair);
            Status status = encode_pair(work, pair, &entry, ids, output);
            if (status != OK)
                return status_context(status, "%s, %s: line %lld", corpus->name[SOURCE_SIDE],
                                      corpus->name[TARGET_SIDE], (long long)place.line);
        }
        memcpy(output->bytes + sizeof output->header + (size_t)i * sizeof entry, &entry, sizeof entry);
    }
    return OK;
}

static int64_t pairs_of(const ParallelCorpus *corpus, int64_t block)
{
    const int64_t left = corpus->lines - block * CORPUS_BLOCK;
    return left < CORPUS_BLOCK ? left : CORPUS_BLOCK;
}

static Status encode_block(Work *work, const char *path, TokenIds *ids, Output *output)
{
    const int64_t pairs = pairs_of(work->options->corpus, work->number);
    output->header = (Header){.version = VERSION,
                              .width = subwords_size(work->options->subwords) <= UINT16_MAX ? 2 : 4,
                              .identity = work->identity,
                              .pairs = pairs};
    memcpy(output->header.magic, magic, sizeof magic);
    TRY(encode_lines(work, pairs, ids, output));
    const size_t header = sizeof output->header;
    output->header.checksum = checksum_of(&output->header, output->bytes + header, output->size - header);
    memcpy(output->bytes, &output->header, header);
    return file_write(path, output->bytes, output->size);
}

static Status make(void *context, const char *path)
{
    Work *work = context;
    TokenIds ids = {.id = NULL};
    Output output = {.bytes = NULL};
    if (file_exists(path)) {
        Status why = map_block(path, work->identity, &work->block[work->number]);
        if (why == OK) return OK;
        log_warning("%s; the lines are encoded again", status_message(why));
        status_free(why);
    }
    if (work->encoder == NULL) TRY(subword_encoder_new(work->options->subwords, &work->encoder));
    Status status = encode_block(work, path, &ids, &output);
    work->encoded = true;
    token_ids_free(&ids);
    free(output.bytes);
    return status;
}

static bool is_made(void *context, const char *path)
{
    const Work *work = context;
    EncodedBlock *block = &work->block[work->number];
    if (block->map.data != NULL) return true;
    if (!file_exists(path)) return false;
    Status status = map_block(path, work->identity, block);
    status_free(status); /* make says it */
    return block->map.data != NULL;
}

/* ---- all blocks ---- */

/* One pass over all blocks by one thread of `count`; *missing: how many others are at work on, as far as the thread
 * sees. Threads and ranks begin at different blocks. */
static Status pass(Work *work, int64_t thread, int64_t count, int64_t *missing, int64_t *encoded)
{
    const int64_t blocks = work->options->corpus->blocks;
    *missing = 0;
    for (int64_t i = thread; i < blocks; i += count) {
        const MakeOnce once = {.is_made = is_made, .make = make, .context = work};
        bool made;
        work->number = (i + work->options->first) % blocks;
        work->encoded = false;
        TRY(make_once_try(work->path[work->number], &once, &made));
        if (made) made = is_made(work, work->path[work->number]); /* maps what was written just now */
        *missing += !made;
        *encoded += work->encoded;
    }
    return OK;
}

static Status run_thread(const Work *all, int64_t thread, int64_t count, int64_t *encoded)
{
    Work work = *all;
    int64_t missing = 0;
    Status status = pass(&work, thread, count, &missing, encoded);
    while (status == OK && missing > 0) {
        make_once_wait();
        status = pass(&work, thread, count, &missing, encoded);
    }
    subword_encoder_free(work.encoder);
    return status;
}

static Status run(const Work *work, int64_t *encoded)
{
    Status first = OK;
    int64_t total = 0;
    const int threads = work->options->threads > 0 ? work->options->threads : omp_get_max_threads();
#pragma omp parallel num_threads(threads) reduction(+ : total)
    {
        Status status = run_thread(work, omp_get_thread_num(), omp_get_num_threads(), &total);
#pragma omp critical(encode_status)
        {
            if (first == OK)
                first = status;
            else
                status_free(status);
        }
    }
    *encoded = total;
    return first;
}

static uint64_t identity_of(const EncodeOptions *options)
{
    const ParallelCorpus *corpus = options->corpus;
    const uint64_t parts[] = {VERSION,
                              CORPUS_BLOCK,
                              (uint64_t)subwords_kind(options->subwords),
                              subwords_hash(options->subwords),
                              corpus->hash[SOURCE_SIDE],
                              corpus->hash[TARGET_SIDE],
                              (uint64_t)corpus->lines};
    return XXH3_64bits(parts, sizeof parts);
}

static Status path_of(const Work *work, int64_t number, char **path)
{
    const EncodeOptions *options = work->options;
    return text_format(path, "%s/%s-%016" PRIx64 "-%05" PRId64 "-of-%05" PRId64 ".ids", options->folder,
                       options->name, work->identity, number + 1, options->corpus->blocks);
}

static void add_up(EncodedCorpus *encoded)
{
    for (int64_t b = 0; b < encoded->blocks; ++b) {
        const Header *header = &encoded->block[b].header;
        encoded->pairs += header->pairs;
        for (int side = 0; side < SIDES; ++side) {
            encoded->tokens[side] += header->tokens[side];
            encoded->unknown[side] += header->unknown[side];
            encoded->changed[side] += header->changed[side];
        }
    }
}

Status encode_cache_open(const EncodeOptions *options, EncodedCorpus *encoded)
{
    const int64_t blocks = options->corpus->blocks;
    char **path = NULL;
    *encoded = (EncodedCorpus){.blocks = blocks};
    Work work = {.options = options, .identity = identity_of(options)};
    Status status;
    TRY_ELSE(done, file_make_folder(options->folder));
    TRY_ELSE(done, memory_new(&path, (size_t)blocks, sizeof *path, "an encoded corpus"));
    TRY_ELSE(done, memory_new(&encoded->block, (size_t)blocks, sizeof *encoded->block, "an encoded corpus"));
    for (int64_t b = 0; b < blocks; ++b)
        TRY_ELSE(done, path_of(&work, b, &path[b]));
    work.path = (const char *const *)path;
    work.block = encoded->block;
    TRY_ELSE(done, run(&work, &encoded->encoded));
    add_up(encoded);
done:
    for (int64_t b = 0; path != NULL && b < blocks; ++b)
        free(path[b]);
    free(path);
    if (status != OK) encode_cache_close(encoded);
    return status;
}

void encode_cache_close(EncodedCorpus *encoded)
{
    for (int64_t b = 0; encoded->block != NULL && b < encoded->blocks; ++b)
        file_unmap(&encoded->block[b].map);
    free(encoded->block);
    *encoded = (EncodedCorpus){.pairs = 0};
}

/* ---- pairs ---- */

static const Entry *entry_of(const EncodedCorpus *encoded, int64_t pair, const EncodedBlock **block)
{
    *block = &encoded->block[pair / CORPUS_BLOCK];
    return (*block)->entry + pair % CORPUS_BLOCK;
}

int64_t encoded_length(const EncodedCorpus *encoded, int side, int64_t pair)
{
    const EncodedBlock *block;
    const Entry *entry = entry_of(encoded, pair, &block);
    return side == SOURCE_SIDE ? entry->source : (int64_t)entry[1].start - entry->start - entry->source;
}

void encoded_ids(const EncodedCorpus *encoded, int side, int64_t pair, int32_t id[])
{
    const EncodedBlock *block;
    const Entry *entry = entry_of(encoded, pair, &block);
    const int64_t count = encoded_length(encoded, side, pair);
    const size_t start = (size_t)entry->start + (side == SOURCE_SIDE ? 0 : entry->source);
    const size_t width = block->header.width;
    const uint8_t *at = block->ids + start * width;
    if (width == 4 && count > 0) memcpy(id, at, (size_t)count * sizeof *id);
    for (int64_t i = 0; width == 2 && i < count; ++i) {
        uint16_t narrow;
        memcpy(&narrow, at + 2 * i, 2);
        id[i] = narrow;
    }
}
