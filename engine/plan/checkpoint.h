/* Checkpoints: safetensors under PyTorch's names and layouts: what FileLayout says of each parameter (a
 * convolution's weight is [out, in, height, width]); a parameter may be several tensors there (FileNames).
 *
 * DIR/STEM.model.safetensors holds parameters and states and loads into PyTorch as it is;
 * DIR/STEM.optimizer.safetensors the optimizer's flat arrays, split by parameter
 * ("momentum/layer1.0.conv1.weight"). The optimizer's file is written first: a checkpoint exists once its
 * model file does. Both carry the same metadata. */
#ifndef PLUMB_ENGINE_PLAN_CHECKPOINT_H
#define PLUMB_ENGINE_PLAN_CHECKPOINT_H

#include "engine/base/safetensors.h"
#include "engine/base/status.h"
#include "engine/plan/store.h"

#include <stdbool.h>
#include <stdint.h>

enum { CHECKPOINT_VERSION = 1 };

/* Called by one rank. metadata: the caller's pairs (step, epoch, config hash); "plumb.version" and
 * "plumb.format" are added. Waits for the device. */
CHECKED Status checkpoint_save(Store *, const char *folder, const char *stem, const SafeMetadata metadata[],
                               int count);

/* The model alone, for evaluation (STEM is "best"): what it is now, in host memory, and its file, which is replaced
 * in one step, so that there is always one. The store outlives the copy. */
typedef struct HostCopy HostCopy;
CHECKED Status checkpoint_copy_model(Store *, HostCopy **);
CHECKED Status checkpoint_write_model(HostCopy *, const char *folder, const char *stem,
                                      const SafeMetadata metadata[], int count);
void host_copy_free(HostCopy *); /* NULL is allowed */

/* Loads both files into the store after checking everything (checksum, format version, names, shapes, that
 * the pair belongs together); the store is unchanged on error. Called by every rank. `file`, if not NULL,
 * receives the open model file for its metadata; close it. */
CHECKED Status checkpoint_load(Store *, const char *folder, const char *stem, SafeFile **file);
void checkpoint_remove(const char *folder, const char *stem);
bool checkpoint_exists(const char *folder, const char *stem); /* its model file is there */

/* Starting weights from a file of ours or of PyTorch's: parameters and states by name, a "module." prefix
 * accepted. Every parameter of the store must be there with its shape, and finite, as float32 or what becomes
 * that: float16, bfloat16, float64; unknown tensors are an error that names the first. Where a parameter has other names
 * too (FileNames), the tensor of its own name is taken, if there is one, else one of those; that they differ is an error.
 * pattern: "", or of fnmatch(3): only parameters and states that it fits are taken, and the file may hold more. It is an
 * error that names the nearest parameter if it fits none. *kept, if not NULL, receives the names of the parameters that kept
 * what they had, "a, b, c and 7 others", "" if none did; release with free(). */
CHECKED Status checkpoint_load_weights(Store *, const char *path, const char *pattern, char **kept);

#endif
