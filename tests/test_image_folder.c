/* Folders of images by class, and the images in them: which are read, and what is said of the others. */
#include "tests/data_files.h"

#include "engine/data/images/image_file.h"
#include "engine/data/images/png.h"
#include "engine/data/images/resize.h"

#include <math.h>
#include <stdio.h>

#include <cjson/cJSON.h>
#include <png.h>

enum { SIDE = 8 };

/* ---- images ---- */

/* A PNG file of one colour: 1 channel (grey) or 3. */
static void put_png(const char *folder, const char *name, int side, int channels, const uint8_t colour[])
{
    char path[PATH_MAX];
    uint8_t pixels[64 * 64 * 3];
    for (int i = 0; i < side * side * channels; ++i)
        pixels[i] = colour[i % channels];
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)side,
                       .height = (png_uint_32)side,
                       .format = channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB};
    path_of(path, folder, name);
    assert_true(png_image_write_to_file(&image, path, 0, pixels, 0, NULL) != 0);
}

static Status decode(const char *path, int64_t height, int64_t width, int64_t channels, uint8_t *pixels)
{
    char *bytes;
    size_t size;
    TRY(file_read(path, 1 << 24, &bytes, &size));
    Status status = image_file_decode(path, (const uint8_t *)bytes, size, height, width, channels, pixels);
    free(bytes);
    return status;
}

static Status header_of(const char *path, ImageHeader *header)
{
    char *bytes;
    size_t size;
    TRY(file_read(path, 1 << 24, &bytes, &size));
    Status status = image_file_header(path, (const uint8_t *)bytes, size, header);
    free(bytes);
    return status;
}

/* What Pillow reads is read the same, up to the JPEG library's rounding, or refused with the file's name; what it does not
 * read is refused. */
static void test_odd_images(void **state)
{
    (void)state;
    const char *list = test_data_or_skip("odd-images/expected.json");
    char *text, folder[PATH_MAX], path[PATH_MAX];
    size_t size;
    (void)snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(list, '/') - list), list);
    assert_ok(file_read(list, 1 << 24, &text, &size));
    cJSON *root = cJSON_Parse(text);
    free(text);
    int read = 0, refused = 0, total = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(root, "images"))
    {
        path_of(path, folder, cJSON_GetObjectItem(item, "file")->valuestring);
        const bool loads = cJSON_IsTrue(cJSON_GetObjectItem(item, "pillow_loads"));
        ImageHeader header = {1, 1, false};
        Status status = header_of(path, &header);
        uint8_t *pixels = NULL;
        ++total;
        if (status == OK && header.height * header.width <= 1 << 21) {
            pixels = malloc((size_t)(header.height * header.width * 3));
            assert_non_null(pixels);
            status = decode(path, header.height, header.width, 3, pixels);
        }
        if (status == OK && pixels != NULL && !loads) {
            print_error("%s is read, but Pillow finds it damaged\n", path);
            _fail(__FILE__, __LINE__);
        }
        if (status != OK) {
            assert_non_null(strstr(status_message(status), path));
            if (loads) print_message("refused, though Pillow reads it: %s\n", status_message(status));
            refused += loads;
        } else if (pixels != NULL) {
            const cJSON *mean = cJSON_GetObjectItem(item, "rgb_mean");
            assert_int_equal(header.width, cJSON_GetObjectItem(item, "width")->valueint);
            assert_int_equal(header.height, cJSON_GetObjectItem(item, "height")->valueint);
            for (int c = 0; c < 3; ++c) {
                double sum = 0;
                for (int64_t i = 0; i < header.height * header.width; ++i)
                    sum += pixels[3 * i + c];
                const double got = sum / (double)(header.height * header.width),
                             want = cJSON_GetArrayItem(mean, c)->valuedouble;
                if (!(fabs(got - want) <= 1)) {
                    print_error("%s: mean of channel %d is %g, expected %g\n", path, c, got, want);
                    _fail(__FILE__, __LINE__);
                }
            }
            ++read;
        }
        status_free(status);
        free(pixels);
    }
    cJSON_Delete(root);
    print_message("%d of %d odd images read, %d refused that Pillow reads\n", read, total, refused);
    assert_true(read >= 65);
    assert_true(refused <= 3);
}

static void test_channels_and_sizes(void **state)
{
    (void)state;
    char folder[4096], path[PATH_MAX];
    uint8_t pixels[SIDE * SIDE * 3];
    const uint8_t grey[] = {77}, colour[] = {10, 200, 30};
    test_scratch_make(folder);
    put_png(folder, "grey.png", SIDE, 1, grey);
    put_png(folder, "colour.png", SIDE, 3, colour);
    path_of(path, folder, "grey.png");
    assert_ok(decode(path, SIDE, SIDE, 1, pixels));
    for (int i = 0; i < SIDE * SIDE; ++i)
        assert_int_equal(pixels[i], 77);
    assert_ok(decode(path, SIDE, SIDE, 3, pixels));
    for (int i = 0; i < SIDE * SIDE * 3; ++i)
        assert_int_equal(pixels[i], 77);
    assert_fails(decode(path, SIDE, SIDE + 1, 3, pixels), STATUS_INPUT, "grey.png: 8x8 pixels, 9x8 expected");
    path_of(path, folder, "colour.png");
    assert_ok(decode(path, SIDE, SIDE, 3, pixels));
    for (int i = 0; i < SIDE * SIDE * 3; ++i)
        assert_int_equal(pixels[i], colour[i % 3]);
    assert_fails(decode(path, SIDE, SIDE, 1, pixels), STATUS_INPUT, "colour.png: an image in colour");
    put_file(folder, "text.png", "no image", 8);
    path_of(path, folder, "text.png");
    assert_fails(decode(path, SIDE, SIDE, 3, pixels), STATUS_INPUT,
                 "text.png: neither a JPEG nor a PNG image");
    test_scratch_remove(folder);
}

/* Cut at any byte a PNG is refused, or all of its pixels are there. */
static void test_cut_png(void **state)
{
    (void)state;
    char folder[4096], path[PATH_MAX];
    uint8_t whole[SIDE * SIDE * 3], pixels[SIDE * SIDE * 3];
    const uint8_t colour[] = {10, 200, 30};
    char *bytes;
    size_t size;
    test_scratch_make(folder);
    put_png(folder, "colour.png", SIDE, 3, colour);
    path_of(path, folder, "colour.png");
    assert_ok(file_read(path, 1 << 20, &bytes, &size));
    assert_ok(image_file_decode("whole", (const uint8_t *)bytes, size, SIDE, SIDE, 3, whole));
    int refused = 0;
    for (size_t cut = 0; cut < size; ++cut) {
        Status status = image_file_decode("cut", (const uint8_t *)bytes, cut, SIDE, SIDE, 3, pixels);
        if (status == OK) assert_memory_equal(pixels, whole, sizeof whole);
        refused += status != OK;
        status_free(status);
    }
    assert_true(refused > (int)size - 20); /* all but the cuts behind the pixels */
    free(bytes);
    test_scratch_remove(folder);
}

/* ---- folders ---- */

static const char *const names[] = {"zebra", "ant", "mouse"}; /* not sorted */
enum { CLASSES = 3, PER_CLASS = 5, TEST_PER_CLASS = 2 };

/* Class (sorted) and number of an image give its colour. */
static void put_images(const char *folder, const char *part, int per_class)
{
    static const int sorted[] = {2, 0, 1};
    for (int c = 0; c < CLASSES; ++c) {
        char name[128];
        (void)snprintf(name, sizeof name, "%s/%s", part, names[c]);
        make_folder(folder, name);
        for (int i = 0; i < per_class; ++i) {
            const uint8_t colour[] = {(uint8_t)(40 * sorted[c]), (uint8_t)(20 * i), (uint8_t)strlen(part)};
            (void)snprintf(name, sizeof name, "%s/%s/image%d.PNG", part, names[c], i);
            put_png(folder, name, SIDE, 3, colour);
        }
        (void)snprintf(name, sizeof name, "%s/%s/notes.txt", part, names[c]);
        put_file(folder, name, "not an image", 12);
    }
}

static DatasetOptions options_of(const char *folder)
{
    return (DatasetOptions){.folder = folder,
                            .validation = -1,
                            .height = SIDE,
                            .width = SIDE,
                            .channels = 3,
                            .mean = {0.5, 0.5, 0.5},
                            .deviation = {0.25, 0.5, 1}};
}

static const uint8_t *pixel_of(Dataset *dataset, Split split, int64_t sample)
{
    const DataSplit *part = &dataset->split[split];
    assert_ok(dataset->prepare(dataset, split, &sample, 1));
    return part->table + part->row[sample] * SIDE * SIDE * 3;
}

static void check_split(Dataset *dataset, Split split, int64_t count)
{
    assert_int_equal(dataset->split[split].count, count);
    for (int64_t i = 0; i < count; ++i)
        assert_int_equal(pixel_of(dataset, split, i)[0], 40 * dataset->split[split].label[i]);
}

static void test_folder(void **state)
{
    (void)state;
    char folder[4096];
    Dataset *dataset;
    test_scratch_make(folder);
    put_images(folder, "train", PER_CLASS);
    put_images(folder, "test", TEST_PER_CLASS);
    DatasetOptions options = options_of(folder);
    assert_ok(dataset_open("image_folder", &options, &dataset));
    assert_int_equal(dataset->classes, CLASSES);
    assert_string_equal(dataset->class_name[0], "ant");
    assert_string_equal(dataset->class_name[2], "zebra");
    check_split(dataset, SPLIT_VALIDATION, 1); /* a tenth of 15 */
    check_split(dataset, SPLIT_TRAIN, 14);
    check_split(dataset, SPLIT_TEST, 6);
    for (int64_t i = 0; i < 6; ++i) /* class after class, sorted by name */
        assert_int_equal(pixel_of(dataset, SPLIT_TEST, i)[1], 20 * (i % 2));
    assert_float_equal(dataset->split[SPLIT_TEST].deviation[1], 0.5, 1e-7);
    dataset_close(dataset);
    options.validation = 6;
    options.test_limit = 2;
    assert_ok(dataset_open("image_folder", &options, &dataset));
    check_split(dataset, SPLIT_VALIDATION, 6);
    check_split(dataset, SPLIT_TEST, 2);
    dataset_close(dataset);
    put_images(folder, "val", 3);
    assert_fails(dataset_open("image_folder", &options, &dataset), STATUS_INPUT,
                 "dataset.validation must stay -1");
    options = options_of(folder);
    assert_ok(dataset_open("image_folder", &options, &dataset));
    check_split(dataset, SPLIT_TRAIN, 15);
    check_split(dataset, SPLIT_VALIDATION, 9);
    check_split(dataset, SPLIT_TEST, 6);
    assert_int_equal(pixel_of(dataset, SPLIT_VALIDATION, 0)[2], strlen("val"));
    assert_int_equal(pixel_of(dataset, SPLIT_TEST, 0)[2], strlen("test"));
    dataset_close(dataset);
    test_scratch_remove(folder);
}

/* `limit` samples of a split in their order, of every class. */
static void check_drawn(Dataset *dataset, Split split, int64_t limit)
{
    const DataSplit *part = &dataset->split[split];
    bool seen[CLASSES] = {false};
    check_split(dataset, split, limit);
    for (int64_t i = 0; i < limit; ++i) {
        seen[part->label[i]] = true;
        assert_true(i == 0 || part->row[i - 1] < part->row[i]);
    }
    for (int c = 0; c < CLASSES; ++c)
        assert_true(seen[c]);
}

/* The files lie class after class: the first ones would be of one class. */
static void test_limits(void **state)
{
    (void)state;
    char folder[4096];
    enum { MANY = 12, LIMIT = 9 };
    Dataset *dataset;
    test_scratch_make(folder);
    put_images(folder, "train", MANY);
    put_images(folder, "test", MANY);
    DatasetOptions options = options_of(folder);
    options.test_limit = LIMIT;
    assert_ok(dataset_open("image_folder", &options, &dataset));
    check_drawn(dataset, SPLIT_TEST, LIMIT);
    int64_t row[LIMIT];
    memcpy(row, dataset->split[SPLIT_TEST].row, sizeof row);
    dataset_close(dataset);
    put_images(folder, "validation", MANY);
    options.train_limit = options.validation_limit = LIMIT;
    assert_ok(dataset_open("image_folder", &options, &dataset));
    check_drawn(dataset, SPLIT_TRAIN, LIMIT);
    check_drawn(dataset, SPLIT_VALIDATION, LIMIT);
    check_drawn(dataset, SPLIT_TEST, LIMIT); /* the same images, behind those of validation */
    const int64_t further = dataset->split[SPLIT_TEST].row[0] - row[0];
    for (int i = 0; i < LIMIT; ++i)
        assert_int_equal(dataset->split[SPLIT_TEST].row[i], row[i] + further);
    dataset_close(dataset);
    options.test_limit = 3 * MANY; /* all there are */
    assert_ok(dataset_open("image_folder", &options, &dataset));
    check_drawn(dataset, SPLIT_TEST, 3 * MANY);
    dataset_close(dataset);
    test_scratch_remove(folder);
}

static void check_refused(const char *folder, const char *text)
{
    Dataset *dataset;
    const DatasetOptions options = options_of(folder);
    assert_fails(dataset_open("image_folder", &options, &dataset), STATUS_INPUT, text);
}

static void test_bad_folders(void **state)
{
    (void)state;
    char folder[4096];
    test_scratch_make(folder);
    check_refused("", "set dataset.folder");
    check_refused(folder, "there is no folder train in");
    make_folder(folder, "train/only");
    check_refused(folder, "there is no folder test in");
    make_folder(folder, "test");
    check_refused(folder, "has 1 folders of classes");
    put_images(folder, "train", 1);
    check_refused(folder, "there are no JPEG or PNG files in");
    const uint8_t colour[] = {1, 2, 3};
    put_png(folder, "train/only/a.png", SIDE, 3, colour);
    check_refused(folder, "there are no JPEG or PNG files in the folders of");
    make_folder(folder, "test/unicorn");
    put_png(folder, "test/unicorn/a.png", SIDE, 3, colour);
    check_refused(folder, "test/unicorn is of a class that");
    test_scratch_remove(folder);
}

/* An image that cannot be used is named when it is asked for, and again the next time. */
static void test_bad_image(void **state)
{
    (void)state;
    char folder[4096];
    Dataset *dataset;
    const uint8_t colour[] = {1, 2, 3};
    const int64_t first = 0;
    test_scratch_make(folder);
    put_images(folder, "train", 2);
    put_images(folder, "test", 1);
    put_png(folder, "test/ant/image0.PNG", SIDE + 1, 3, colour);
    const DatasetOptions options = options_of(folder);
    assert_ok(dataset_open("image_folder", &options, &dataset));
    for (int i = 0; i < 2; ++i)
        assert_fails(dataset->prepare(dataset, SPLIT_TEST, &first, 1), STATUS_INPUT,
                     "test/ant/image0.PNG: 9x9 pixels, 8x8 expected");
    put_png(folder, "test/ant/image0.PNG", SIDE, 3, colour);
    assert_ok(dataset->prepare(dataset, SPLIT_TEST, &first, 1));
    dataset_close(dataset);
    test_scratch_remove(folder);
}

/* What is encoded is what was given, of colours and of grey. */
static void test_encoded_png(void **state)
{
    (void)state;
    enum { HEIGHT = 3, WIDTH = 5 };
    for (int64_t channels = 1; channels <= 3; channels += 2) {
        uint8_t pixels[HEIGHT * WIDTH * 3], again[HEIGHT * WIDTH * 3], *bytes;
        size_t size;
        for (size_t i = 0; i < sizeof pixels; ++i)
            pixels[i] = (uint8_t)(37 * i);
        assert_ok(png_encode(pixels, HEIGHT, WIDTH, channels, &bytes, &size));
        assert_ok(png_decode("made", bytes, size, HEIGHT, WIDTH, channels, again));
        assert_memory_equal(pixels, again, (size_t)(HEIGHT * WIDTH * channels));
        free(bytes);
    }
}

/* Weights by hand: of four pixels to two they are 3:3:1 and 1:3:3 sevenths, of two to four 1, 3:1, 1:3 and 1 quarters. */
static void test_resize_by_hand(void **state)
{
    (void)state;
    static const uint8_t four[] = {0, 0, 70, 140}, two[] = {0, 100};
    static const uint8_t halved[] = {10, 90}, doubled[] = {0, 25, 75, 100};
    uint8_t got[64];
    assert_ok(image_resize(four, (ImageSize){1, 4}, 1, got, (ImageSize){1, 2}));
    assert_memory_equal(got, halved, 2);
    assert_ok(image_resize(four, (ImageSize){4, 1}, 1, got, (ImageSize){2, 1}));
    assert_memory_equal(got, halved, 2);
    assert_ok(image_resize(two, (ImageSize){1, 2}, 1, got, (ImageSize){1, 4}));
    assert_memory_equal(got, doubled, 4);
    assert_ok(image_resize(two, (ImageSize){2, 1}, 1, got, (ImageSize){4, 3}));
    for (int i = 0; i < 12; ++i)
        assert_int_equal(got[i], doubled[i / 3]);
    assert_ok(image_resize(four, (ImageSize){2, 2}, 1, got, (ImageSize){2, 2}));
    assert_memory_equal(got, four, 4);
}

/* Channels do not mix, a colour stays that colour, and every size to every other is within the image. */
static void test_resize_keeps_colours(void **state)
{
    (void)state;
    static const uint8_t colour[] = {0, 127, 255};
    uint8_t from[20 * 20 * 3], got[20 * 20 * 3];
    for (size_t i = 0; i < sizeof from; ++i)
        from[i] = colour[i % 3];
    for (int64_t old = 1; old <= 20; ++old)
        for (int64_t size = 1; size <= 20; ++size) {
            assert_ok(image_resize(from, (ImageSize){old, 21 - old}, 3, got, (ImageSize){size, 21 - size}));
            for (int64_t i = 0; i < size * (21 - size) * 3; ++i)
                assert_int_equal(got[i], colour[i % 3]);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_odd_images),     cmocka_unit_test(test_channels_and_sizes),
        cmocka_unit_test(test_cut_png),        cmocka_unit_test(test_folder),
        cmocka_unit_test(test_limits),         cmocka_unit_test(test_bad_folders),
        cmocka_unit_test(test_bad_image),      cmocka_unit_test(test_encoded_png),
        cmocka_unit_test(test_resize_by_hand), cmocka_unit_test(test_resize_keeps_colours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
