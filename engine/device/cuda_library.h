/* NVIDIA's libraries, found when the program runs, so that one binary starts with and without them. Needs
 * their headers; part of a build with CUDA alone. */
#ifndef PLUMB_ENGINE_DEVICE_CUDA_LIBRARY_H
#define PLUMB_ENGINE_DEVICE_CUDA_LIBRARY_H

#include "engine/device/device.h"

#include <cublasLt.h>
#include <cudnn.h>

/* The functions that are used, under their own names less the prefix. */
/* clang-format off */
#define CUDNN_FUNCTIONS(F) \
    F(Create) F(Destroy) F(SetStream) F(GetVersion) F(GetErrorString) F(GetLastErrorString) \
    F(BackendCreateDescriptor) F(BackendDestroyDescriptor) F(BackendSetAttribute) F(BackendGetAttribute) \
    F(BackendFinalize) F(BackendExecute)
#define CUBLASLT_FUNCTIONS(F) \
    F(Create) F(Destroy) F(GetVersion) F(GetStatusString) F(MatmulDescCreate) F(MatmulDescDestroy) \
    F(MatmulDescSetAttribute) F(MatrixLayoutCreate) F(MatrixLayoutDestroy) F(MatmulPreferenceCreate) \
    F(MatmulPreferenceDestroy) F(MatmulPreferenceSetAttribute) F(MatmulAlgoGetHeuristic) F(Matmul)
/* clang-format on */

#define CUDNN_MEMBER(name) __typeof__(cudnn##name) *name;
typedef struct {
    CUDNN_FUNCTIONS(CUDNN_MEMBER)
    cudnnHandle_t handle;
    size_t version; /* 91300: 9.13.0 */
} Cudnn;

#define CUBLASLT_MEMBER(name) __typeof__(cublasLt##name) *name;
typedef struct {
    CUBLASLT_FUNCTIONS(CUBLASLT_MEMBER)
    cublasLtHandle_t handle;
    size_t version;
} CublasLt;

/* The library with a handle for the GPU that is current, loaded at the first call from where the system finds
 * libraries (LD_LIBRARY_PATH, the loader's cache), or from lib or lib64 in $CUDNN_PATH or $CUDA_PATH. It
 * stays loaded. The error says what to install. */
CHECKED Status cudnn_load(const Cudnn **);
CHECKED Status cublaslt_load(const CublasLt **);

/* A result as a status: what was done, what the library calls the error, and its own explanation. */
CHECKED Status cudnn_status(const Cudnn *, cudnnStatus_t, const char *what);
CHECKED Status cublaslt_status(const CublasLt *, cublasStatus_t, const char *what);

#endif
