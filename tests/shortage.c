/*
 * Stands between the engine and the C library, and says that there is no memory: test_shortage.py
 * loads it into a process with LD_PRELOAD.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static void *(*next_malloc)(size_t size);
static void *(*next_calloc)(size_t number, size_t size);
static void *(*next_realloc)(void *memory, size_t size);

static long allocations = -1; /* that still succeed; negative: all */
static long sends;            /* that fail */
static long failed;           /* of them */

void let_allocations_fail_after(long number) { allocations = number; }
long allocations_left(void) { return allocations; }
void let_sends_fail(long number) { sends = number; }
long failed_sends(void) { return failed; }

/* Whether an allocation of the engine's or of libchrony's is to fail; Python's succeed. */
static int fails(void *caller)
{
    Dl_info info;
    if (allocations < 0 || dladdr(caller, &info) == 0 || info.dli_fname == NULL)
        return 0;
    if (strstr(info.dli_fname, "_shim") == NULL && strstr(info.dli_fname, "libchrony") == NULL)
        return 0;
    if (allocations > 0) {
        allocations--;
        return 0;
    }
    errno = ENOMEM;
    return 1;
}

/* Find the C library's functions, which are called even before constructors run. */
static void find_next(void)
{
    if (next_malloc != NULL)
        return;
    next_calloc = dlsym(RTLD_NEXT, "calloc");
    next_realloc = dlsym(RTLD_NEXT, "realloc");
    next_malloc = dlsym(RTLD_NEXT, "malloc");
}

void *malloc(size_t size)
{
    find_next();
    return fails(__builtin_return_address(0)) ? NULL : next_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    find_next();
    return fails(__builtin_return_address(0)) ? NULL : next_calloc(number, size);
}

void *realloc(void *memory, size_t size)
{
    find_next();
    return fails(__builtin_return_address(0)) ? NULL : next_realloc(memory, size);
}

ssize_t send(int fd, const void *bytes, size_t size, int flags)
{
    if (sends > 0) {
        sends--;
        failed++;
        errno = ENOBUFS;
        return -1;
    }
    return sendto(fd, bytes, size, flags, NULL, 0);
}
