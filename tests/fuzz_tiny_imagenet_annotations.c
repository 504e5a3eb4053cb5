/* The text files of Tiny-ImageNet: names that are let through stay inside the folder. */
#include "engine/data/images/tiny_imagenet.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check_names(const NameList *list)
{
    for (int64_t i = 0; i < list->count; ++i) {
        const char *name = list->name[i];
        if (name[0] == '\0' || name[0] == '.' || strpbrk(name, "/\t\n") != NULL) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const char known[] = "n01\nn02\nn0\n";
    NameList classes, images;
    int32_t *labels;
    Status status = tiny_imagenet_parse_classes("classes", known, sizeof known - 1, &classes);
    if (status != OK) abort();
    status = tiny_imagenet_parse_annotations("input", (const char *)bytes, size, &classes, &images, &labels);
    check_names(&images);
    for (int64_t i = 0; i < images.count; ++i)
        if (labels[i] < 0 || labels[i] >= classes.count) abort();
    status_free(status);
    name_list_free(&images);
    free(labels);
    name_list_free(&classes);

    status = tiny_imagenet_parse_classes("input", (const char *)bytes, size, &classes);
    check_names(&classes);
    for (int64_t i = 1; i < classes.count; ++i)
        if (strcmp(classes.name[i - 1], classes.name[i]) >= 0) abort();
    status_free(status);
    name_list_free(&classes);
    return 0;
}
