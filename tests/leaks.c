/* Part of every program of a build with sanitizers: what the leak checker shall not report. Libraries that
 * keep memory until the process ends are named; since only what is still loaded has a name, their plugins
 * stay loaded; and what MPI allocates through the C library while it starts, where the checker cannot see the
 * caller, is not looked at. */
#if PLUMB_HAVE_MPI
#include <mpi.h>

void __lsan_disable(void); /* NOLINT: the sanitizer's name */
void __lsan_enable(void);  /* NOLINT */

int MPI_Init_thread(int *argc, char ***argv, int required, int *provided)
{
    __lsan_disable();
    const int code = PMPI_Init_thread(argc, argv, required, provided);
    __lsan_enable();
    return code;
}
#endif

int dlclose(void *handle);
int dlclose(void *handle)
{
    (void)handle;
    return 0;
}

const char *__lsan_default_suppressions(void); /* NOLINT: the sanitizer's name */
const char *__lsan_default_suppressions(void)  /* NOLINT */
{
    return "leak:libmpi\n"
           "leak:libopen-\n"
           "leak:libpmix\n"
           "leak:libhwloc\n"
           "leak:libevent\n"
           "leak:mca_\n"
           "leak:libdnnl\n"
           "leak:libOpenCL\n"
           "leak:libgomp\n";
}

const char *__lsan_default_options(void); /* NOLINT */
const char *__lsan_default_options(void) /* NOLINT */ { return "print_suppressions=0"; }
