#include "tests/golden.h"

#include "tests/golden_kinds.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_SIZE = 4096, MOST_SETS = 32 };

/* Read at the first question, and kept until the program ends. */
typedef struct {
    cJSON *manifest[MOST_SETS];
    int manifests;
    GoldenCase *cases;
    int count;
} Sets;
static Sets wanted, examples;
static int64_t checked;

static void stop(void) { assert_true(false); }

static void *copy_text(const char *text)
{
    char *copy = strdup(text);
    assert_non_null(copy);
    return copy;
}

/* ---- sets ---- */

char *golden_read_text(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) print_error("%s cannot be read\n", path);
    assert_non_null(file);
    size_t size = 0, room = 1 << 16;
    char *text = malloc(room + 1);
    assert_non_null(text);
    for (size_t got; (got = fread(text + size, 1, room - size, file)) > 0;) {
        size += got;
        if (size < room) continue;
        room *= 2;
        char *larger = realloc(text, room + 1);
        assert_non_null(larger);
        text = larger;
    }
    text[size] = '\0';
    (void)fclose(file);
    return text;
}

static cJSON *read_json(const char *path)
{
    char *text = golden_read_text(path);
    cJSON *document = cJSON_Parse(text);
    if (document == NULL) print_error("%s is not JSON\n", path);
    assert_non_null(document);
    free(text);
    return document;
}

static const char *member_text(const cJSON *object, const char *key, const char *path)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsString(item)) print_error("%s: a case has no text \"%s\"\n", path, key);
    assert_true(cJSON_IsString(item));
    return item->valuestring;
}

/* Cases that no set before has. */
static void add_set(Sets *sets, const char *root, const char *name)
{
    char path[PATH_SIZE + 32], folder[PATH_SIZE];
    (void)snprintf(folder, sizeof folder, "%s%s%s", root, name[0] != '\0' ? "/" : "", name);
    (void)snprintf(path, sizeof path, "%s/manifest.json", folder);
    if (access(path, R_OK) != 0) return;
    assert_true(sets->manifests < MOST_SETS);
    cJSON *manifest = sets->manifest[sets->manifests++] = read_json(path);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(manifest, "cases"), *item;
    if (!cJSON_IsArray(list)) print_error("%s has no list \"cases\"\n", path);
    assert_true(cJSON_IsArray(list));
    const int before = sets->count;
    sets->cases = realloc(sets->cases, (size_t)(before + cJSON_GetArraySize(list) + 1) * sizeof *sets->cases);
    assert_non_null(sets->cases);
    const char *const kept_name = copy_text(name), *const kept_folder = copy_text(folder);
    cJSON_ArrayForEach(item, list)
    {
        const GoldenCase golden = {.id = member_text(item, "id", path),
                                   .kind = member_text(item, "kind", path),
                                   .set = kept_name,
                                   .folder = kept_folder,
                                   .json = item};
        bool known = false;
        for (int i = 0; i < before && !known; ++i)
            known = strcmp(sets->cases[i].set, name) == 0 && strcmp(sets->cases[i].id, golden.id) == 0;
        if (!known) sets->cases[sets->count++] = golden;
    }
}

static int is_visible(const struct dirent *entry) { return entry->d_name[0] != '.'; }

static void add_root(Sets *sets, const char *root)
{
    struct dirent **entries;
    add_set(sets, root, "");
    const int count = scandir(root, &entries, is_visible, alphasort);
    for (int i = 0; i < count; ++i) {
        add_set(sets, root, entries[i]->d_name);
        free(entries[i]);
    }
    if (count >= 0) free(entries);
}

static const Sets *read_sets(void)
{
    if (wanted.count > 0) return &wanted;
    const char *wish = getenv("PLUMB_TEST_GOLDEN");
    add_root(&wanted, wish != NULL ? wish : TEST_GOLDEN);
    if (wish == NULL) add_root(&wanted, TEST_GOLDEN_WHOLE);
    if (wanted.count == 0)
        print_error("%s holds no set of golden values\n", wish != NULL ? wish : TEST_GOLDEN);
    assert_true(wanted.count > 0);
    return &wanted;
}

static const Sets *read_examples(void)
{
    if (examples.count == 0) add_root(&examples, TEST_GOLDEN);
    return examples.count > 0 ? &examples : read_sets();
}

static const cJSON *find(const GoldenCase *golden, const char *path)
{
    char keys[512];
    assert_true((size_t)snprintf(keys, sizeof keys, "%s", path) < sizeof keys);
    const cJSON *item = golden->json;
    char *rest = NULL;
    for (char *key = strtok_r(keys, "/", &rest); key != NULL && item != NULL;
         key = strtok_r(NULL, "/", &rest))
        item = cJSON_GetObjectItemCaseSensitive(item, key);
    return item;
}

static const GoldenCase *next(const char *kind, const char *mark, const GoldenCase *after)
{
    const Sets *sets = read_sets();
    for (const GoldenCase *golden = after != NULL ? after + 1 : sets->cases;
         golden < sets->cases + sets->count; ++golden)
        if ((kind == NULL || strcmp(golden->kind, kind) == 0) && (mark == NULL || find(golden, mark) != NULL))
            return golden;
    return NULL;
}

const GoldenCase *golden_next(const char *kind, const char *mark, const GoldenCase *after)
{
    const GoldenCase *found = next(kind, mark, after);
    if (found == NULL) return NULL;
    const GoldenKind *row = golden_kind(found);
    if (row == NULL || row->suite == NULL)
        print_error("%s: tests/golden_kinds.c names no suite that reads this kind (%s) of golden cases\n",
                    found->id, kind);
    assert_true(row != NULL && row->suite != NULL);
    return found;
}

const GoldenCase *golden_any(const GoldenCase *after) { return next(NULL, NULL, after); }

static const GoldenCase *find_case(const Sets *sets, const char *set, const char *id)
{
    for (int i = 0; i < sets->count; ++i)
        if (strcmp(sets->cases[i].set, set) == 0 && strcmp(sets->cases[i].id, id) == 0)
            return &sets->cases[i];
    return NULL;
}

const GoldenCase *golden_find(const char *set, const char *id) { return find_case(read_sets(), set, id); }

const GoldenCase *golden_need(const char *set, const char *id)
{
    const GoldenCase *found = golden_find(set, id);
    if (found != NULL) return found;
    const char *wish = getenv("PLUMB_TEST_GOLDEN");
    print_message("%s holds no golden case %s\n", wish != NULL ? wish : TEST_GOLDEN, id);
    assert_non_null(wish); /* tests/golden has what tests name */
    skip();
    return NULL;
}

const GoldenCase *golden_example(const char *set, const char *id)
{
    const GoldenCase *found = find_case(read_examples(), set, id);
    if (found == NULL) print_error("there is no golden case %s\n", id);
    assert_non_null(found);
    return found;
}

/* ---- what a case holds ---- */

bool golden_has(const GoldenCase *golden, const char *path) { return find(golden, path) != NULL; }

const cJSON *golden_item(const GoldenCase *golden, const char *path)
{
    const cJSON *item = find(golden, path);
    if (item == NULL) print_error("%s of %s has no %s\n", golden->id, golden->folder, path);
    assert_non_null(item);
    return item;
}

static bool is_number(const cJSON *item, double *value)
{
    *value = NAN;
    if (cJSON_IsBool(item)) *value = cJSON_IsTrue(item) ? 1 : 0;
    if (cJSON_IsNumber(item)) *value = item->valuedouble;
    if (cJSON_IsBool(item) || cJSON_IsNumber(item)) return true;
    if (!cJSON_IsString(item)) return false;
    if (strcmp(item->valuestring, "inf") == 0) *value = INFINITY;
    if (strcmp(item->valuestring, "-inf") == 0) *value = -INFINITY;
    return !isnan(*value) || strcmp(item->valuestring, "nan") == 0;
}

double golden_json_number(const cJSON *item)
{
    double value;
    const bool number = is_number(item, &value);
    if (!number)
        print_error("an item of a golden case (%s) is not a number\n", item != NULL ? item->string : "NULL");
    assert_true(number);
    return value;
}

double golden_number(const GoldenCase *golden, const char *path)
{
    double value;
    const bool number = is_number(golden_item(golden, path), &value);
    if (!number) print_error("%s of %s: %s is not a number\n", golden->id, golden->folder, path);
    assert_true(number);
    return value;
}

double golden_number_or(const GoldenCase *golden, const char *path, double otherwise)
{
    return golden_has(golden, path) ? golden_number(golden, path) : otherwise;
}

double golden_number_at(const GoldenCase *golden, const char *path, int index)
{
    const cJSON *item = cJSON_GetArrayItem(golden_item(golden, path), index);
    if (item == NULL) print_error("%s of %s: %s has no item %d\n", golden->id, golden->folder, path, index);
    return golden_json_number(item);
}

const char *golden_text(const GoldenCase *golden, const char *path)
{
    const cJSON *item = golden_item(golden, path);
    if (!cJSON_IsString(item)) print_error("%s of %s: %s is not a text\n", golden->id, golden->folder, path);
    assert_true(cJSON_IsString(item));
    return item->valuestring;
}

int golden_length(const GoldenCase *golden, const char *path)
{
    return cJSON_GetArraySize(golden_item(golden, path));
}

/* ---- files ---- */

const char *golden_path_in(const GoldenCase *golden, const char *name)
{
    /* One copy of each path for each call would grow without bound in long loops: few are in use at a time. */
    static char paths[16][PATH_SIZE];
    static int next;
    char *path = paths[next++ % 16];
    assert_true((size_t)snprintf(path, PATH_SIZE, "%s/%s", golden->folder, name) < PATH_SIZE);
    return path;
}

const char *golden_path(const GoldenCase *golden, const char *path)
{
    return golden_path_in(golden, golden_text(golden, path));
}

cJSON *golden_document(const GoldenCase *golden, const char *path)
{
    return read_json(golden_path(golden, path));
}

static double element(const Npy *npy, int64_t index)
{
    switch (npy->type) {
    case FLOAT32:
        return (double)((const float *)npy->data)[index];
    case FLOAT64:
        return ((const double *)npy->data)[index];
    case INT32:
        return (double)((const int32_t *)npy->data)[index];
    case INT64:
        return (double)((const int64_t *)npy->data)[index];
    default:
        return (double)((const uint8_t *)npy->data)[index];
    }
}

GoldenArray golden_array(const GoldenCase *golden, const char *path)
{
    Npy npy;
    assert_ok(npy_open(golden_path(golden, path), &npy));
    GoldenArray array = {.type = npy.type, .rank = npy.rank, .count = npy.count};
    memcpy(array.extent, npy.extent, sizeof array.extent);
    for (int i = npy.rank; i < NPY_MAX_RANK; ++i)
        array.extent[i] = 1;
    array.values = malloc((size_t)npy.count * sizeof *array.values + 1);
    assert_non_null(array.values);
    for (int64_t i = 0; i < npy.count; ++i)
        array.values[i] = element(&npy, i);
    npy_close(&npy);
    return array;
}

void golden_array_free(GoldenArray *array)
{
    free(array->values);
    *array = (GoldenArray){0};
}

/* ---- comparison ---- */

static bool read_tolerance(const cJSON *item, GoldenTolerance *tolerance)
{
    const cJSON *relative = cJSON_GetObjectItemCaseSensitive(item, "rtol");
    const cJSON *absolute = cJSON_GetObjectItemCaseSensitive(item, "atol");
    *tolerance = (GoldenTolerance){cJSON_IsNumber(relative) ? relative->valuedouble : 0,
                                   cJSON_IsNumber(absolute) ? absolute->valuedouble : 0};
    return cJSON_IsNumber(relative) || cJSON_IsNumber(absolute);
}

GoldenTolerance golden_tolerance(const GoldenCase *golden, const char *precision, const char *role)
{
    char path[256];
    GoldenTolerance tolerance = {0};
    (void)snprintf(path, sizeof path, "tolerance/%s", precision);
    if (read_tolerance(find(golden, path), &tolerance)) return tolerance;
    (void)snprintf(path, sizeof path, "tolerance/%s/%s", precision, role);
    if (read_tolerance(find(golden, path), &tolerance)) return tolerance;
    print_error("%s of %s gives no tolerance %s of %s\n", golden->id, golden->folder, precision, role);
    stop();
    return tolerance;
}

bool golden_is_close(double got, double want, GoldenTolerance tolerance)
{
    if (got == want || (isnan(got) && isnan(want))) return true;
    return isfinite(want) && fabs(got - want) <= tolerance.absolute + tolerance.relative * fabs(want);
}

static int64_t check(const GoldenCase *golden, const char *path, const double *doubles, const float *floats,
                     int64_t count, const char *precision)
{
    const char *slash = strrchr(path, '/'), *role = slash != NULL ? slash + 1 : path;
    const GoldenTolerance tolerance = golden_tolerance(golden, precision, role);
    GoldenArray want = golden_array(golden, path);
    if (want.count != count)
        print_error("%s of %s: %s has %lld elements, not %lld\n", golden->id, golden->folder, path,
                    (long long)want.count, (long long)count);
    assert_int_equal(want.count, count);
    for (int64_t i = 0; i < count; ++i) {
        const double got = doubles != NULL ? doubles[i] : (double)floats[i];
        if (golden_is_close(got, want.values[i], tolerance)) continue;
        print_error("%s of %s: %s[%lld] is %.17g, but must be %.17g (difference %.3g)\n", golden->id,
                    golden->folder, role, (long long)i, got, want.values[i], fabs(got - want.values[i]));
        stop();
    }
    golden_array_free(&want);
    checked += count;
    return count;
}

int64_t golden_check(const GoldenCase *golden, const char *path, const double *got, int64_t count,
                     const char *precision)
{
    return check(golden, path, got, NULL, count, precision);
}

int64_t golden_check_float(const GoldenCase *golden, const char *path, const float *got, int64_t count,
                           const char *precision)
{
    return check(golden, path, NULL, got, count, precision);
}

void golden_check_number(const GoldenCase *golden, const char *path, double got, GoldenTolerance tolerance)
{
    const double want = golden_number(golden, path);
    ++checked;
    if (golden_is_close(got, want, tolerance)) return;
    print_error("%s of %s: %s is %.17g, but must be %.17g (difference %.3g)\n", golden->id, golden->folder,
                path, got, want, fabs(got - want));
    stop();
}

int64_t golden_checked(void) { return checked; }

void golden_count(int64_t count) { checked += count; }
