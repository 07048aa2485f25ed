#include "libchrony.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/auxv.h>

struct libchrony chrony;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *_Atomic loaded;

void lock_library(void) { pthread_mutex_lock(&lock); }
void unlock_library(void) { pthread_mutex_unlock(&lock); }

/* Resolve all of libchrony's functions; returns the name of one that is missing, or NULL. */
static const char *resolve(void *handle)
{
#define RESOLVE(result, name, arguments)                                     \
    if ((*(void **)(&chrony.name) = dlsym(handle, "chrony_" #name)) == NULL) \
        return "chrony_" #name;
    LIBCHRONY(RESOLVE)
    return NULL;
}

static int load(const char *path, char *reason, size_t size)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        const char *words = dlerror();
        snprintf(reason, size, "%s", words != NULL ? words : "no reason given");
        return -1;
    }
    const char *missing = resolve(handle);
    if (missing != NULL) {
        snprintf(reason, size, "it is not libchrony, or too old: it has no %s", missing);
        dlclose(handle);
        return -1;
    }
    loaded = handle;
    return 0;
}

int shim_load(const char *path, char *reason, size_t size)
{
    lock_library();
    int result = loaded != NULL ? 0 : load(path, reason, size);
    unlock_library();
    return result;
}

int shim_is_secure(void) { return getauxval(AT_SECURE) != 0; }

const char *shim_path(void)
{
    Dl_info info;
    if (loaded == NULL || dladdr(*(void **)(&chrony.open_socket), &info) == 0)
        return NULL;
    return info.dli_fname;
}

const char *shim_report(int report) { return chrony.get_report_name(report); }

const char *shim_error(int code) { return chrony.get_error_string((chrony_err)code); }
