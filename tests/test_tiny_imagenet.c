/* Tiny-ImageNet: a folder of JPEG files, decoded when asked for. */
#include "tests/data_files.h"

#include "engine/data/images/jpeg.h"
#include "engine/data/images/tiny_imagenet.h"

#include <pthread.h>
#include <stdio.h>

#include <xxhash.h>

/* libjpeg's names for these two are our element types. */
#define INT32 JPEG_INT32
#define UINT8 JPEG_UINT8
#include <jpeglib.h>
#undef INT32
#undef UINT8

enum { SIDE = 64, PIXELS = SIDE * SIDE, CLASSES = 3, PER_CLASS = 5, TEST = 4 };
static const char *const wnids[CLASSES] = {"n03", "n01", "n02"}; /* not sorted */

/* An image of one colour, grey or mixture of inks as a JPEG file of the best quality. */
static unsigned long encode(int height, int width, J_COLOR_SPACE space, const uint8_t colour[],
                            unsigned char **bytes)
{
    struct jpeg_compress_struct codec;
    struct jpeg_error_mgr errors;
    unsigned long size = 0;
    *bytes = NULL;
    codec.err = jpeg_std_error(&errors);
    jpeg_create_compress(&codec);
    jpeg_mem_dest(&codec, bytes, &size);
    codec.image_height = (JDIMENSION)height;
    codec.image_width = (JDIMENSION)width;
    codec.input_components = space == JCS_GRAYSCALE ? 1 : space == JCS_CMYK ? 4 : 3;
    codec.in_color_space = space;
    jpeg_set_defaults(&codec);
    jpeg_set_quality(&codec, 100, TRUE);
    jpeg_start_compress(&codec, TRUE);
    uint8_t line[4 * 256];
    for (int i = 0; i < width * codec.input_components; ++i)
        line[i] = colour[i % codec.input_components];
    while (codec.next_scanline < codec.image_height) {
        JSAMPROW row = line;
        (void)jpeg_write_scanlines(&codec, &row, 1);
    }
    jpeg_finish_compress(&codec);
    jpeg_destroy_compress(&codec);
    return size;
}

static void put_image(const char *folder, const char *name, int height, int width, bool grey,
                      const uint8_t colour[3])
{
    unsigned char *bytes;
    const unsigned long size = encode(height, width, grey ? JCS_GRAYSCALE : JCS_RGB, colour, &bytes);
    put_file(folder, name, bytes, size);
    free(bytes);
}

/* Sorted class and number of an image give its colour; every third is grey. */
static void colour_of(int class_index, int number, uint8_t colour[3])
{
    colour[0] = (uint8_t)(60 * class_index + 20);
    colour[1] = (uint8_t)(30 * number + 10);
    colour[2] = (uint8_t)(200 - 20 * number);
    if (number % 3 == 2) colour[1] = colour[2] = colour[0];
}

static void put_tiny_imagenet(const char *folder)
{
    char name[128], text[512] = "";
    for (int c = 0; c < CLASSES; ++c) {
        (void)snprintf(name, sizeof name, "train/%s/images", wnids[c]);
        make_folder(folder, name);
        const int class_index = wnids[c][2] - '1';
        for (int i = 0; i < PER_CLASS; ++i) {
            uint8_t colour[3];
            colour_of(class_index, i, colour);
            (void)snprintf(name, sizeof name, "train/%s/images/%s_%d.JPEG", wnids[c], wnids[c], i);
            put_image(folder, name, SIDE, SIDE, i % 3 == 2, colour);
        }
    }
    put_file(folder, "train/n01/images/notes.txt", "not an image", 12);
    put_file(folder, "wnids.txt", "n03\nn01\r\nn02\n", 13);
    make_folder(folder, "val/images");
    size_t used = 0;
    for (int i = 0; i < TEST; ++i) {
        uint8_t colour[3];
        colour_of(i % CLASSES, i, colour);
        (void)snprintf(name, sizeof name, "val/images/val_%d.JPEG", i);
        put_image(folder, name, SIDE, SIDE, i % 3 == 2, colour);
        used += (size_t)snprintf(text + used, sizeof text - used, "val_%d.JPEG\tn0%d\t0\t1\t2\t3\n", i,
                                 i % CLASSES + 1);
    }
    put_file(folder, "val/val_annotations.txt", text, used);
}

/* Every pixel within the loss of the best quality. */
static void check_colour(const uint8_t *image, const uint8_t colour[3])
{
    for (int p = 0; p < PIXELS; ++p)
        for (int c = 0; c < 3; ++c)
            if (abs(image[3 * p + c] - colour[c]) > 3) {
                print_error("pixel %d, channel %d: %d, expected %d\n", p, c, image[3 * p + c], colour[c]);
                _fail(__FILE__, __LINE__);
            }
}

static const uint8_t *image_at(const Dataset *dataset, Split split, int64_t sample)
{
    const DataSplit *part = &dataset->split[split];
    return part->table + part->row[sample] * PIXELS * 3;
}

static void prepare_all(Dataset *dataset, Split split)
{
    for (int64_t i = 0; i < dataset->split[split].count; ++i)
        assert_ok(dataset->prepare(dataset, split, &i, 1));
}

static void images_are_decoded_on_demand(void **state)
{
    (void)state;
    char folder[4096], command[9000], inside[PATH_MAX];
    test_scratch_make(folder);
    make_folder(folder, "tiny-imagenet-200");
    path_of(inside, folder, "tiny-imagenet-200");
    put_tiny_imagenet(inside);
    Dataset *dataset;
    const DatasetOptions options = {.folder = folder, .validation = 4};
    assert_ok(dataset_open("tiny_imagenet", &options, &dataset));
    assert_int_equal(dataset->classes, CLASSES);
    assert_int_equal(dataset->height, SIDE);
    assert_int_equal(dataset->split[SPLIT_TRAIN].count, CLASSES * PER_CLASS - 4);
    assert_int_equal(dataset->split[SPLIT_VALIDATION].count, 4);
    assert_int_equal(dataset->split[SPLIT_TEST].count, TEST);
    int held_out[CLASSES] = {0};
    for (int i = 0; i < 4; ++i)
        ++held_out[dataset->split[SPLIT_VALIDATION].label[i]];
    assert_int_equal(held_out[0], 2); /* 4 = 3 + 1: the first class one more */
    assert_int_equal(held_out[1], 1);
    assert_int_equal(held_out[2], 1);
    for (int s = 0; s < SPLIT_COUNT; ++s) {
        assert_float_equal(dataset->split[s].mean[1], 0.456F, 0);
        assert_float_equal(dataset->split[s].deviation[0], 0.229F, 0);
        const DataSplit *split = &dataset->split[s];
        const uint8_t black[3] = {0, 0, 0};
        for (int64_t i = 0; i < split->count; ++i)
            check_colour(image_at(dataset, (Split)s, i), black);
        prepare_all(dataset, (Split)s);
    }
    /* What is decoded is not read again. */
    (void)snprintf(command, sizeof command, "rm -rf '%s/train' '%s/val'", inside, inside);
    assert_int_equal(system(command), 0);
    for (int s = 0; s < SPLIT_COUNT; ++s) {
        prepare_all(dataset, (Split)s);
        const DataSplit *split = &dataset->split[s];
        for (int64_t i = 0; i < split->count; ++i) {
            const int64_t row = split->row[i];
            const bool test = row >= CLASSES * PER_CLASS;
            assert_true(test == (s == SPLIT_TEST));
            const int number = (int)(test ? row - CLASSES * PER_CLASS : row % PER_CLASS);
            const int class_index = (int)(test ? number % CLASSES : row / PER_CLASS);
            assert_int_equal(split->label[i], class_index);
            uint8_t colour[3];
            colour_of(class_index, number, colour);
            check_colour(image_at(dataset, (Split)s, i), colour);
        }
    }
    dataset_close(dataset);
    test_scratch_remove(folder);
}

static void validation_can_be_the_test_images(void **state)
{
    (void)state;
    char folder[4096];
    test_scratch_make(folder);
    put_tiny_imagenet(folder);
    Dataset *dataset;
    DatasetOptions options = {.folder = folder, .validation = -1, .validation_is_test = true};
    assert_ok(dataset_open("tiny_imagenet", &options, &dataset));
    assert_int_equal(dataset->split[SPLIT_TRAIN].count, CLASSES * PER_CLASS);
    assert_int_equal(dataset->split[SPLIT_VALIDATION].count, TEST);
    assert_int_equal(dataset->split[SPLIT_TEST].count, TEST);
    prepare_all(dataset, SPLIT_VALIDATION);
    assert_ptr_equal(image_at(dataset, SPLIT_VALIDATION, 1), image_at(dataset, SPLIT_TEST, 1));
    dataset_close(dataset);
    options.validation_is_test = false; /* 50 of each class, of which there are 5 */
    assert_fails(dataset_open("tiny_imagenet", &options, &dataset), STATUS_INPUT, "only 15 to train on");
    test_scratch_remove(folder);
}

/* ---- Bad input ---- */

static void bad_folders_are_refused(void **state)
{
    (void)state;
    static const Spoiled table[] = {
        {"wnids.txt", REMOVE, 0, 0, "launch/get_data.sh tiny_imagenet"},
        {"wnids.txt", EMPTY, 0, 0, "is empty"},
        {"wnids.txt", CUT, 10, 0, "1 classes; at least 2 expected"},
        {"wnids.txt", SET, 2, '1', "n01 is listed twice"},
        {"wnids.txt", SET, 2, '/', "wnids.txt:1: not a plain name"},
        {"wnids.txt", SET, 4, '.', "wnids.txt:2: not a plain name"},
        {"wnids.txt", SET, 6, 0, "wnids.txt:2: not a plain name"},
        {"val/val_annotations.txt", REMOVE, 0, 0, "is missing from"},
        {"val/val_annotations.txt", EMPTY, 0, 0, "is empty"},
        {"val/val_annotations.txt", SET, 13, '9', "val_annotations.txt:1: class n09 is not in wnids.txt"},
        {"val/val_annotations.txt", SET, 4, '3', "val_3.JPEG is listed twice"},
        {"val/val_annotations.txt", SET, 4, '7', "is listed in val_annotations.txt but missing"},
        {"val/val_annotations.txt", SET, 0, '.', "val_annotations.txt:1: not a plain name"},
        {"val/val_annotations.txt", SET, 10, ' ', "val_annotations.txt:1: not a plain name"},
        {"val/images/val_2.JPEG", REMOVE, 0, 0, "is listed in val_annotations.txt but missing"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; ++i) {
        char folder[4096];
        test_scratch_make(folder);
        put_tiny_imagenet(folder);
        spoil(folder, &table[i]);
        assert_spoiled("tiny_imagenet", folder, &table[i]);
        test_scratch_remove(folder);
    }
    char folder[4096], command[9000];
    test_scratch_make(folder);
    put_tiny_imagenet(folder);
    Dataset *dataset;
    const DatasetOptions options = {.folder = folder, .validation = 3};
    (void)snprintf(command, sizeof command, "rm '%s'/train/n02/images/*", folder);
    assert_int_equal(system(command), 0);
    assert_fails(dataset_open("tiny_imagenet", &options, &dataset), STATUS_INPUT, "no JPEG files in");
    (void)snprintf(command, sizeof command, "rm -r '%s'/train/n02", folder);
    assert_int_equal(system(command), 0);
    assert_fails(dataset_open("tiny_imagenet", &options, &dataset), STATUS_INPUT, "train/n02/images");
    test_scratch_remove(folder);
}

static void byte_order_marks_are_skipped(void **state)
{
    (void)state;
    static const char names[] = "\xef\xbb\xbf"
                                "b\r\na\r\n",
                      notes[] = "\xef\xbb\xbf"
                                "y.JPEG\tb\r\n";
    NameList classes, images;
    int32_t *labels;
    assert_ok(tiny_imagenet_parse_classes("wnids.txt", names, sizeof names - 1, &classes));
    assert_int_equal(classes.count, 2);
    assert_string_equal(classes.name[1], "b");
    assert_ok(
        tiny_imagenet_parse_annotations("notes.txt", notes, sizeof notes - 1, &classes, &images, &labels));
    assert_string_equal(images.name[0], "y.JPEG");
    assert_int_equal(labels[0], 1);
    free(labels);
    name_list_free(&images);
    name_list_free(&classes);
}

static void parse_fails(const char *text, const char *message)
{
    NameList classes, images;
    int32_t *labels;
    assert_ok(tiny_imagenet_parse_classes("wnids.txt", "b\na\nab\n", 7, &classes));
    assert_int_equal(classes.count, 3);
    assert_string_equal(classes.name[1], "ab");
    assert_fails(tiny_imagenet_parse_annotations("notes.txt", text, strlen(text), &classes, &images, &labels),
                 STATUS_INPUT, message);
    assert_null(labels);
    assert_null(images.name);
    name_list_free(&classes);
}

static void bad_annotations_are_refused(void **state)
{
    (void)state;
    parse_fails("", "no image is listed");
    parse_fails("\n\n", "no image is listed");
    parse_fails("x.JPEG\tab\nx y.JPEG", "notes.txt:2: no tab");
    parse_fails("x.JPEG\ta\n\ny.JPEG\tabc\t0\n", "notes.txt:3: class abc is not in wnids.txt");
    parse_fails("x.JPEG\t\n", "notes.txt:1: not a plain name");
    parse_fails("\ta\n", "notes.txt:1: not a plain name");
    parse_fails("../../etc/passwd\ta\n", "notes.txt:1: not a plain name");
    NameList classes, images;
    int32_t *labels;
    assert_ok(tiny_imagenet_parse_classes("wnids.txt", "b\na\nab", 6, &classes));
    static const char good[] = "y.JPEG\tb\nx.JPEG\tab\t9\tjunk\r\nz.JPEG\ta";
    assert_ok(
        tiny_imagenet_parse_annotations("notes.txt", good, sizeof good - 1, &classes, &images, &labels));
    assert_int_equal(images.count, 3);
    assert_string_equal(images.name[0], "y.JPEG");
    assert_int_equal(labels[0], 2);
    assert_int_equal(labels[1], 1);
    assert_int_equal(labels[2], 0);
    free(labels);
    name_list_free(&images);
    name_list_free(&classes);
}

static void bad_images_are_named(void **state)
{
    (void)state;
    char folder[4096];
    test_scratch_make(folder);
    put_tiny_imagenet(folder);
    Dataset *dataset;
    const DatasetOptions options = {.folder = folder, .validation = 3};
    assert_ok(dataset_open("tiny_imagenet", &options, &dataset));
    const uint8_t colour[3] = {1, 2, 3};
    static const Spoiled table[] = {
        {"val/images/val_1.JPEG", EMPTY, 0, 0, "Empty input file"},
        {"val/images/val_1.JPEG", SET, 0, 'X', "Not a JPEG file"},
        {"val/images/val_1.JPEG", CUT, 40, 0, "damaged"},
        {"val/images/val_1.JPEG", CUT, 2, 0, "damaged"},
        {"val/images/val_1.JPEG", ADD, 2 << 20, 0, "larger than"},
        {"val/images/val_1.JPEG", REMOVE, 0, 0, "No such file"},
    };
    const int64_t sample = 1;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; ++i) {
        put_image(folder, "val/images/val_1.JPEG", SIDE, SIDE, false, colour);
        spoil(folder, &table[i]);
        Status status = dataset->prepare(dataset, SPLIT_TEST, &sample, 1);
        assert_non_null(status);
        assert_non_null(strstr(status_message(status), "val_1.JPEG"));
        if (strstr(status_message(status), table[i].message) == NULL) {
            print_error("got \"%s\", expected \"%s\"\n", status_message(status), table[i].message);
            _fail(__FILE__, __LINE__);
        }
        status_free(status);
    }
    put_image(folder, "val/images/val_1.JPEG", 32, 64, false, colour);
    assert_fails(dataset->prepare(dataset, SPLIT_TEST, &sample, 1), STATUS_INPUT,
                 "val_1.JPEG: 64x32 pixels, 64x64 expected");
    /* An error does not stick to the image: once it is good it is read. */
    put_image(folder, "val/images/val_1.JPEG", SIDE, SIDE, false, colour);
    assert_ok(dataset->prepare(dataset, SPLIT_TEST, &sample, 1));
    check_colour(image_at(dataset, SPLIT_TEST, 1), colour);
    dataset_close(dataset);
    test_scratch_remove(folder);
}

static void flipped_bytes_never_crash_the_decoder(void **state)
{
    (void)state;
    unsigned char *bytes;
    const uint8_t colour[3] = {90, 30, 200};
    const unsigned long size = encode(SIDE, SIDE, JCS_RGB, colour, &bytes);
    uint8_t *pixels = malloc(PIXELS * 3);
    assert_non_null(pixels);
    for (unsigned long i = 0; i < size; ++i) {
        const unsigned char before = bytes[i];
        bytes[i] = (unsigned char)(before ^ 0x55);
        status_free(
            jpeg_decode("image", bytes, size, SIDE, SIDE, 3, pixels)); /* good or refused: both are fine */
        bytes[i] = before;
        assert_fails(jpeg_decode("image", bytes, i, SIDE, SIDE, 3, pixels), STATUS_INPUT, "image: ");
    }
    assert_ok(jpeg_decode("image", bytes, size, SIDE, SIDE, 3, pixels));
    check_colour(pixels, colour);
    free(pixels);
    free(bytes);
}

/* ---- Threads ---- */

static void *prepare_in_thread(void *argument)
{
    Dataset *dataset = argument;
    int64_t samples[CLASSES * PER_CLASS - 3];
    const int64_t count = dataset->split[SPLIT_TRAIN].count;
    for (int64_t i = 0; i < count; ++i)
        samples[i] = i;
    Status status = dataset->prepare(dataset, SPLIT_TRAIN, samples, count);
    return status;
}

static void threads_may_want_the_same_images(void **state)
{
    (void)state;
    enum { THREADS = 4, ROUNDS = 10 };
    char folder[4096];
    test_scratch_make(folder);
    put_tiny_imagenet(folder);
    for (int round = 0; round < ROUNDS; ++round) {
        Dataset *dataset;
        const DatasetOptions options = {.folder = folder, .validation = 3};
        assert_ok(dataset_open("tiny_imagenet", &options, &dataset));
        pthread_t thread[THREADS];
        for (int i = 0; i < THREADS; ++i)
            assert_int_equal(pthread_create(&thread[i], NULL, prepare_in_thread, dataset), 0);
        for (int i = 0; i < THREADS; ++i) {
            void *status;
            assert_int_equal(pthread_join(thread[i], &status), 0);
            assert_ok((Status)status);
        }
        for (int64_t i = 0; i < dataset->split[SPLIT_TRAIN].count; ++i) {
            const int row = (int)dataset->split[SPLIT_TRAIN].row[i];
            uint8_t colour[3];
            colour_of(row / PER_CLASS, row % PER_CLASS, colour);
            check_colour(image_at(dataset, SPLIT_TRAIN, i), colour);
        }
        dataset_close(dataset);
    }
    test_scratch_remove(folder);
}

/* Inks are stored as what is left of white; the mixtures are those of Pillow. */
static void inks_become_colours(void **state)
{
    (void)state;
    static const struct {
        uint8_t inks[4], colour[3];
    } table[] = {
        {{255, 255, 255, 255}, {255, 255, 255}},
        {{255, 255, 255, 0}, {0, 0, 0}},
        {{0, 255, 255, 255}, {0, 255, 255}},
        {{200, 100, 50, 128}, {100, 50, 25}},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; ++i) {
        unsigned char *bytes;
        uint8_t pixels[PIXELS * 3];
        const unsigned long size = encode(SIDE, SIDE, JCS_CMYK, table[i].inks, &bytes);
        assert_ok(jpeg_decode("inks.jpg", bytes, size, SIDE, SIDE, 3, pixels));
        free(bytes);
        for (int at = 0; at < PIXELS * 3; ++at)
            assert_in_range(pixels[at] + 2, table[i].colour[at % 3], table[i].colour[at % 3] + 4);
    }
}

/* ---- Real data ---- */

static void inks_of_a_real_image_are_mixed_as_pillow_does(void **state)
{
    (void)state;
    enum { REAL_SIDE = 256, BYTES = REAL_SIDE * REAL_SIDE * 3 };
    char path[PATH_MAX], *bytes;
    size_t size;
    path_of(path, test_data_or_skip("odd-images"), "jd-jpg-cmyk-2.jpg");
    assert_ok(file_read(path, 1 << 20, &bytes, &size));
    uint8_t *pixels = malloc(BYTES);
    assert_non_null(pixels);
    assert_ok(jpeg_decode(path, (const uint8_t *)bytes, size, REAL_SIDE, REAL_SIDE, 3, pixels));
    assert_true(XXH64(pixels, BYTES, 0) == 0xc9e6ef96ec585123U);
    free(pixels);
    free(bytes);
}

static void real_images_are_what_other_decoders_see(void **state)
{
    (void)state;
    enum { IMAGES = 500 };
    Dataset *dataset;
    const DatasetOptions options = {.folder = test_data_or_skip("tiny-imagenet-200"), .validation = -1};
    assert_ok(dataset_open("tiny_imagenet", &options, &dataset));
    assert_int_equal(dataset->classes, 200);
    assert_int_equal(dataset->split[SPLIT_VALIDATION].count, 10000);
    assert_int_equal(dataset->split[SPLIT_TEST].count, 10000);
    assert_true(dataset->split[SPLIT_TRAIN].count % 200 == 0);
    int64_t of_class[200] = {0};
    for (int64_t i = 0; i < 10000; ++i)
        ++of_class[dataset->split[SPLIT_VALIDATION].label[i]];
    for (int c = 0; c < 200; ++c)
        assert_int_equal(of_class[c], 50);
    /* torchvision's ImageFolder gives n03444034, the class of val_0.JPEG, this index. */
    assert_int_equal(dataset->split[SPLIT_TEST].label[0], 107);
    int64_t samples[IMAGES];
    for (int64_t i = 0; i < IMAGES; ++i)
        samples[i] = i;
    assert_ok(dataset->prepare(dataset, SPLIT_TEST, samples, IMAGES));
    /* Of the same images, decoded by Pillow and converted to RGB. */
    assert_true(XXH64(image_at(dataset, SPLIT_TEST, 0), (size_t)IMAGES * PIXELS * 3, 0) ==
                0x3fbaade9bd5e1595U);
    dataset_close(dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_are_decoded_on_demand),
        cmocka_unit_test(validation_can_be_the_test_images),
        cmocka_unit_test(bad_folders_are_refused),
        cmocka_unit_test(byte_order_marks_are_skipped),
        cmocka_unit_test(bad_annotations_are_refused),
        cmocka_unit_test(bad_images_are_named),
        cmocka_unit_test(flipped_bytes_never_crash_the_decoder),
        cmocka_unit_test(inks_become_colours),
        cmocka_unit_test(inks_of_a_real_image_are_mixed_as_pillow_does),
        cmocka_unit_test(threads_may_want_the_same_images),
        cmocka_unit_test(real_images_are_what_other_decoders_see),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
