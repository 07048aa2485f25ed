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

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t number, size_t size);
void *__libc_realloc(void *memory, size_t size);

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

void *malloc(size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(number, size);
}

void *realloc(void *memory, size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(memory, size);
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
