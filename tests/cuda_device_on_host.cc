/* The device on which cuda_on_host.cc executes kernels: host memory, work done at once, or as late as it may if the
 * environment has PLUMB_TEST_LATE=1. It can record as a GPU does, if the environment has PLUMB_TEST_RECORD=1; else it
 * enqueues anew. While it records, what a GPU would refuse ends the program. */
#include "tests/cuda_on_host.h"

extern "C" {
#include "engine/device/cuda_kernels.h"
#include "engine/device/device_methods.h"
#include "engine/device/staging.h"
}

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <omp.h>
#include <sys/mman.h>

extern "C" void enqueue_device_work(void (*run)(void *), void (*drop)(void *), void *argument);

namespace
{

bool is_set(const char *name)
{
    const char *value = std::getenv(name);
    return value != nullptr && value[0] == '1';
}

/* ---- copies by way of memory that only they use, as a GPU's ---- */

Status copy_later(void *, void *to, const void *from, size_t bytes)
{
    enqueue_on_host([=] { std::memcpy(to, from, bytes); });
    return OK;
}

int64_t event[STAGING_EVENTS];

Status record_event(void *, int which)
{
    event[which] = given_on_host();
    return OK;
}

Status wait_for_event(void *, int which)
{
    work_on_host_until(event[which]);
    return OK;
}

Status drain(void *)
{
    work_on_host_until(given_on_host());
    return OK;
}

const StagingQueue staging_queue = {copy_later, copy_later, record_event, wait_for_event, drain};
Staging *staging_of(const Device *device) { return static_cast<Staging *>(device->implementation); }

/* ---- memory ---- */

void refuse_while_recording(const char *what)
{
    if (!is_recording_on_host()) return;
    std::fprintf(stderr, "%s cannot be recorded\n", what);
    std::abort();
}

std::map<void *, size_t> guarded; /* blocks, by address */
std::mutex guarded_mutex;
int opened;
size_t taken; /* bytes of blocks that are guarded */

int count_host(Status *) { return 1; }

Status open_host(Device *device, int, int threads)
{
    if (threads > 0) omp_set_num_threads(threads);
    device->threads = omp_get_max_threads();
    const char *memory = std::getenv("PLUMB_TEST_MEMORY"); /* bytes: how large it says it is */
    device->memory = memory != nullptr ? std::strtoull(memory, nullptr, 10) : static_cast<size_t>(1) << 30;
    device->bfloat16 = 1;
    const char *identity = std::getenv("PLUMB_TEST_IDENTITY"); /* the same for ranks that share a GPU */
    if (identity != nullptr) (void)std::snprintf(device->identity, sizeof device->identity, "%s", identity);
    (void)std::snprintf(device->name, sizeof device->name, "CUDA on the host");
    auto *staging = new Staging{};
    staging->methods = &staging_queue;
    staging->memory = static_cast<char *>(std::malloc(STAGING_BYTES));
    device->implementation = staging;
    return OK;
}

void close_host(Device *device)
{
    (void)drain(nullptr);
    std::free(staging_of(device)->memory);
    delete staging_of(device);
}

Status allocate_host(Device *device, size_t bytes, const char *what, void **memory)
{
    refuse_while_recording("an allocation");
    const bool guard = is_set("PLUMB_TEST_GUARD");
    if (guard && taken + bytes > device->memory) (void)drain(nullptr); /* what was freed is gone then */
    if (guard && taken + bytes > device->memory)
        return fail(STATUS_MEMORY, "%s needs %zu bytes of a GPU that has %zu", what, bytes, device->memory);
    constexpr size_t LINE = 256; /* as a GPU aligns */
    const size_t size = (bytes + LINE) / LINE * LINE;
    void *block = guard ? mmap(nullptr, size, opened > 0 ? PROT_READ | PROT_WRITE : PROT_NONE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                        : std::aligned_alloc(LINE, size);
    if (block == nullptr || block == MAP_FAILED) return fail(STATUS_MEMORY, "%s: %zu bytes", what, bytes);
    if (guard) {
        const std::lock_guard<std::mutex> lock(guarded_mutex);
        guarded[block] = size;
        taken += size;
    } else {
        std::memset(block, 0, size);
    }
    *memory = block;
    return OK;
}

void release(void *memory)
{
    const std::lock_guard<std::mutex> lock(guarded_mutex);
    const auto found = guarded.find(memory);
    if (found == guarded.end()) {
        std::free(memory);
    } else {
        (void)munmap(memory, found->second);
        taken -= found->second;
        guarded.erase(found);
    }
}

void free_host(Device *, void *memory)
{
    enqueue_on_host([=] { release(memory); });
}

/* ---- copies ---- */

Status upload_host(Device *device, void *to, const void *from, size_t bytes)
{
    refuse_while_recording("a copy from the host");
    return staging_upload(staging_of(device), to, from, bytes);
}

Status download_host(Device *device, void *to, const void *from, size_t bytes)
{
    refuse_while_recording("a copy to the host");
    if (bytes <= STAGED_MOST) return staging_download(staging_of(device), to, from, bytes);
    (void)copy_later(nullptr, to, from, bytes);
    return drain(nullptr); /* to memory that is not pinned nothing is copied later */
}

Status copy_rows_host(Device *, void *to, size_t to_stride, const void *from, size_t from_stride,
                      size_t bytes, size_t rows)
{
    enqueue_on_host([=] {
        for (size_t row = 0; row < rows; ++row)
            std::memcpy(static_cast<char *>(to) + row * to_stride,
                        static_cast<const char *>(from) + row * from_stride, bytes);
    });
    return OK;
}

Status clear_host(Device *, void *memory, size_t bytes)
{
    enqueue_on_host([=] { std::memset(memory, 0, bytes); });
    return OK;
}

Status synchronize_host(Device *device)
{
    refuse_while_recording("waiting");
    return staging_synchronize(staging_of(device));
}

Status mark_host(Device *device, Mark *mark) { return staging_mark(staging_of(device), mark); }

Status wait_host(Device *device, Mark mark)
{
    refuse_while_recording("waiting");
    return staging_wait(staging_of(device), mark);
}

/* ---- recordings ---- */

struct Record {
    std::vector<std::function<void()>> work;
    Status (*enqueue)(void *); /* instead, if it is not to be recorded */
    void *argument;
};

Status record_host(Device *, Recording *recording, Status (*enqueue)(void *), void *argument)
{
    auto *record = new Record{{}, enqueue, argument};
    recording->implementation = record;
    if (!is_set("PLUMB_TEST_RECORD")) return OK;
    record->enqueue = nullptr;
    record_on_host(&record->work);
    const Status status = enqueue(argument);
    record_on_host(nullptr);
    /* PLUMB_TEST_RECORD_MOST: a recording of more work than that fails. */
    const char *most = std::getenv("PLUMB_TEST_RECORD_MOST");
    if (status != OK || most == nullptr || record->work.size() <= std::strtoul(most, nullptr, 10))
        return status;
    recording->implementation = nullptr;
    delete record;
    return fail(STATUS_UNSUPPORTED, "this much cannot be recorded");
}

Status replay_host(Device *, const Recording *recording)
{
    const auto *record = static_cast<const Record *>(recording->implementation);
    if (record->enqueue != nullptr) return record->enqueue(record->argument);
    for (const auto &work : record->work)
        enqueue_on_host(work);
    return OK;
}

void forget_host(Device *, Recording *recording) { delete static_cast<Record *>(recording->implementation); }

} // namespace

void open_device_memory(bool open)
{
    const std::lock_guard<std::mutex> lock(guarded_mutex);
    opened += open ? 1 : -1;
    if (opened != (open ? 1 : 0)) return;
    for (const auto &[block, size] : guarded)
        (void)mprotect(block, size, open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

extern "C" {
/* The stand-ins of NVIDIA's libraries, which are loaded when the program runs, find it here: takes the
 * argument, calls run(argument) now or whenever it is replayed, and drop(argument) in the end. */
void enqueue_device_work(void (*run)(void *), void (*drop)(void *), void *argument)
{
    const std::shared_ptr<void> kept(argument, drop);
    enqueue_on_host([=] { run(kept.get()); });
}

const DeviceMethods device_cuda_methods = {
    .count = count_host,
    .visible = nullptr,
    .has_driver = nullptr,
    .open = open_host,
    .close = close_host,
    .allocate = allocate_host,
    .free = free_host,
    .upload = upload_host,
    .download = download_host,
    .copy_rows = copy_rows_host,
    .clear = clear_host,
    .accumulate = accumulate_cuda,
    .narrow = narrow_cuda,
    .widen = widen_cuda,
    .synchronize = synchronize_host,
    .mark = mark_host,
    .wait = wait_host,
    .time_once = nullptr,
    .measure_peaks = [](Device *, DevicePeaks *peaks) -> Status {
        *peaks = {1e9, 1e9, 1e9};
        return OK;
    },
    .libraries = [](const Device *,
                    char text[1024]) { (void)std::snprintf(text, 1024, "no CUDA: kernels run on the host"); },
    .measure_link = nullptr,
    .stream_open = nullptr,
    .stream_close = nullptr,
    .stream_follow = nullptr,
    .record = record_host,
    .replay = replay_host,
    .forget = forget_host};
}
