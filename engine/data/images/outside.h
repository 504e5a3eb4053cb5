/* Images from outside a data set: what a network that was trained on the set should be unsure of. */
#ifndef PLUMB_ENGINE_DATA_IMAGES_OUTSIDE_H
#define PLUMB_ENGINE_DATA_IMAGES_OUTSIDE_H

#include "engine/data/images/dataset.h"

enum { OUTSIDE_NOTE = 256 };

/* The images `name` as the test split of a data set of their own, of the size, channels and normalisation of the test split of
 * `own`; their labels are 0 and mean nothing. All are read at once. `from` says where they are, "" where nothing was said:
 *
 *     svhn            the folder with test_32x32.mat, or a MATLAB file of that layout: X, uint8 [32,32,3,N]
 *     cifar10_c       FILE[:SEVERITY], a file of CIFAR-10-C (.npy) or the folder with gaussian_noise.npy; severity 5 unless given
 *     gaussian_noise  [SEVERITY]: made of the images of own's test split, by noise.h and `seed`
 *     another name    any folder of JPEG and PNG files, in sub-folders or not
 *
 * *made: the images were made here. note: in words, what they are. STATUS_INPUT names the file and what is wrong, as another
 * size or number of channels. */
CHECKED Status outside_open(Dataset *own, const char *name, const char *from, uint64_t seed, bool *made,
                            char note[OUTSIDE_NOTE], Dataset **);

/* That there is a file or folder of that name, and such a severity: what can be known before the images are read. */
CHECKED Status outside_check(const char *name, const char *from);

#endif
