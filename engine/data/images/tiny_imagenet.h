/* The text files of Tiny-ImageNet: the list of classes, and the labels of the validation images. */
#ifndef PLUMB_ENGINE_DATA_IMAGES_TINY_IMAGENET_H
#define PLUMB_ENGINE_DATA_IMAGES_TINY_IMAGENET_H

#include "engine/data/images/name_list.h"

#include <stdint.h>

/* wnids.txt: one class a line. The list is sorted by bytes: a class is its index in it, as torchvision's
 * ImageFolder counts. STATUS_INPUT for names that are not plain words, and for duplicates. */
CHECKED Status tiny_imagenet_parse_classes(const char *file, const char *text, size_t size,
                                           NameList *classes);

/* val_annotations.txt: image, class and a box a line, separated by tabs; boxes are not read. Images in the
 * order of the file, and the label of each in *labels, released with free(). STATUS_INPUT names the line. */
CHECKED Status tiny_imagenet_parse_annotations(const char *file, const char *text, size_t size,
                                               const NameList *classes, NameList *images, int32_t **labels);

#endif
