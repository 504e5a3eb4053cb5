#if PLUMB_HAVE_NCCL

#include "comm/nccl_library.h"
#include "comm/nccl.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static const char library_name[] = "libnccl.so.2";
static const int oldest = NCCL_VERSION(2, 13, 0); /* ncclGetLastError */

void nccl_version_text(int version, char text[32])
{
    /* Until 2.8 the code had one digit less for the minor number. */
    const int factor = version < 10000 ? 1000 : 10000;
    (void)snprintf(text, 32, "%d.%d.%d", version / factor, version % factor / 100, version % 100);
}

Status nccl_status(const NcclLibrary *library, ncclResult_t result, ncclComm_t communicator, const char *what)
{
    if (result == ncclSuccess) return OK;
    const char *last = library->get_last_error(communicator);
    const bool has_last = last != NULL && *last != '\0';
    return fail(STATUS_COMMUNICATION, "NCCL: %s: %s%s%.*s", what, library->get_error_string(result),
                has_last ? ": " : "", has_last ? (int)strcspn(last, "\n") : 0, has_last ? last : "");
}

Status nccl_load(NcclLibrary *library)
{
    *library = (NcclLibrary){.version = 0};
    void *handle = dlopen(library_name, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        return fail(
            STATUS_UNSUPPORTED,
            "NCCL, which moves data between GPUs, cannot be loaded: %s. Install it, name its folder in "
            "LD_LIBRARY_PATH, or use one rank",
            dlerror());
    const struct {
        const char *name;
        void *function; /* a pointer to a function, to be set through void * as dlsym gives it */
    } symbols[] = {{"ncclGetVersion", &library->get_version},
                   {"ncclGetUniqueId", &library->get_unique_id},
                   {"ncclCommInitRank", &library->comm_init_rank},
                   {"ncclCommDestroy", &library->comm_destroy},
                   {"ncclCommAbort", &library->comm_abort},
                   {"ncclCommGetAsyncError", &library->comm_get_async_error},
                   {"ncclGetErrorString", &library->get_error_string},
                   {"ncclGetLastError", &library->get_last_error},
                   {"ncclAllReduce", &library->all_reduce},
                   {"ncclAllGather", &library->all_gather},
                   {"ncclBroadcast", &library->broadcast}};
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; ++i) {
        void *found = dlsym(handle, symbols[i].name);
        if (found == NULL)
            return fail(STATUS_UNSUPPORTED, "%s has no %s: it is older than version 2.13, which plumb needs",
                        library_name, symbols[i].name);
        memcpy(symbols[i].function, &found, sizeof found);
    }
    library->host_memory = dlsym(handle, "nccl_stand_in_for_host_memory") != NULL;
    int version = 0;
    TRY(nccl_status(library, library->get_version(&version), NULL, "ncclGetVersion"));
    if (version < oldest) {
        char have[32], need[32];
        nccl_version_text(version, have);
        nccl_version_text(oldest, need);
        return fail(STATUS_UNSUPPORTED, "NCCL %s is too old: plumb needs %s or newer", have, need);
    }
    library->version = version;
    return OK;
}

bool nccl_describe(char text[256])
{
    NcclLibrary library;
    char version[32];
    const Status status = nccl_load(&library);
    if (status != OK) {
        (void)snprintf(text, 256, "none (%s)", status_message(status));
        status_free(status);
        return false;
    }
    nccl_version_text(library.version, version);
    (void)snprintf(text, 256, "NCCL %s", version);
    return true;
}

#endif
