#include "engine/device/cuda_library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    void *function; /* where the pointer to it goes, through void * as dlsym gives it */
} Symbol;

/* From the folder `lib` or, as NVIDIA's toolkit has it, `lib64` of what the environment variable `home`
 * names, as builds of other programs find the library, else from where the system finds libraries. */
static void *open_library(const char *file, const char *home)
{
    static const char *const folders[] = {"lib", "lib64"};
    const char *root = getenv(home);
    char path[4096];
    for (size_t i = 0; i < sizeof folders / sizeof *folders && root != NULL && root[0] != '\0'; ++i) {
        (void)snprintf(path, sizeof path, "%s/%s/%s", root, folders[i], file);
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (library != NULL) return library;
    }
    return dlopen(file, RTLD_NOW | RTLD_LOCAL);
}

static Status load(const char *file, const char *what, const char *home, const Symbol symbol[], int count)
{
    void *library = open_library(file, home);
    if (library == NULL)
        return fail(STATUS_UNSUPPORTED,
                    "%s, which plumb needs on a GPU, cannot be loaded: %s. Install it, or name its folder in "
                    "LD_LIBRARY_PATH (of the Python packages: .../site-packages/nvidia/*/lib) or the folder "
                    "above it in %s, or use device: cpu",
                    what, dlerror(), home);
    for (int i = 0; i < count; ++i) {
        void *found = dlsym(library, symbol[i].name);
        if (found == NULL)
            return fail(STATUS_UNSUPPORTED, "%s has no %s: it is too old", file, symbol[i].name);
        memcpy(symbol[i].function, &found, sizeof found);
    }
    return OK;
}

Status cudnn_status(const Cudnn *cudnn, cudnnStatus_t result, const char *what)
{
    char more[512] = "";
    if (result == CUDNN_STATUS_SUCCESS) return OK;
    cudnn->GetLastErrorString(more, sizeof more);
    more[strcspn(more, "\n")] = '\0';
    return fail(result == CUDNN_STATUS_ALLOC_FAILED ? STATUS_MEMORY : STATUS_INTERNAL,
                "cuDNN %zu: %s: %s%s%s", cudnn->version, what, cudnn->GetErrorString(result),
                more[0] != '\0' ? ": " : "", more);
}

Status cublaslt_status(const CublasLt *blas, cublasStatus_t result, const char *what)
{
    if (result == CUBLAS_STATUS_SUCCESS) return OK;
    return fail(result == CUBLAS_STATUS_ALLOC_FAILED ? STATUS_MEMORY : STATUS_INTERNAL,
                "cuBLASLt %zu: %s: %s", blas->version, what, blas->GetStatusString(result));
}

Status cudnn_load(const Cudnn **out)
{
    static Cudnn cudnn;
    enum { OLDEST = 90000 }; /* GetLastErrorString; engines of version 9 */
#define CUDNN_SYMBOL(name) {"cudnn" #name, &cudnn.name},
    static const Symbol symbol[] = {CUDNN_FUNCTIONS(CUDNN_SYMBOL)};
    *out = NULL;
    if (cudnn.handle == NULL) {
        TRY(load("libcudnn.so.9", "cuDNN 9", "CUDNN_PATH", symbol, (int)(sizeof symbol / sizeof *symbol)));
        cudnn.version = cudnn.GetVersion();
        if (cudnn.version < OLDEST)
            return fail(STATUS_UNSUPPORTED,
                        "libcudnn.so.9 says that it is version %zu: plumb needs 9.0 or newer", cudnn.version);
        TRY(cudnn_status(&cudnn, cudnn.Create(&cudnn.handle), "cudnnCreate"));
    }
    *out = &cudnn;
    return OK;
}

Status cublaslt_load(const CublasLt **out)
{
    static CublasLt blas;
#define CUBLASLT_SYMBOL(name) {"cublasLt" #name, &blas.name},
    static const Symbol symbol[] = {CUBLASLT_FUNCTIONS(CUBLASLT_SYMBOL)};
    char file[64], what[64];
    *out = NULL;
    if (blas.handle == NULL) {
        (void)snprintf(file, sizeof file, "libcublasLt.so.%d", CUBLAS_VER_MAJOR);
        (void)snprintf(what, sizeof what, "cuBLASLt %d", CUBLAS_VER_MAJOR);
        TRY(load(file, what, "CUDA_PATH", symbol, (int)(sizeof symbol / sizeof *symbol)));
        blas.version = blas.GetVersion();
        TRY(cublaslt_status(&blas, blas.Create(&blas.handle), "cublasLtCreate"));
    }
    *out = &blas;
    return OK;
}
