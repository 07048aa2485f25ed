/*
 * Loads libchrony, once and for ever, and makes fork() safe while other threads use it.
 */
#include "engine.h"

#include <dlfcn.h>
#include <stdio.h>
#include <sys/auxv.h>

struct libchrony chrony;

static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t text_lock = PTHREAD_MUTEX_INITIALIZER;
static void *_Atomic loaded;

void take_text(void) { pthread_mutex_lock(&text_lock); }
void drop_text(void) { pthread_mutex_unlock(&text_lock); }

/* ---- fork() ---- */

static void before_fork(void)
{
    pthread_mutex_lock(&load_lock);
    lock_loops();
    take_text();
    lock_shapes();
}

static void after_fork(void)
{
    unlock_shapes();
    drop_text();
    unlock_loops();
    pthread_mutex_unlock(&load_lock);
}

/* A child that used its parent's sockets would receive the parent's answers, and libchrony would
   use the same sequence numbers in both. Closed by libchrony, they would take the parent's socket
   files with them. */
static void in_child(void)
{
    leave_loops_to_parent();
    after_fork();
}

/* Runs when the shim is loaded, before any lock can be held. */
__attribute__((constructor)) static void register_fork_handlers(void)
{
    pthread_atfork(before_fork, after_fork, in_child);
}

/* ---- libchrony ---- */

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
    pthread_mutex_lock(&load_lock);
    int result = loaded != NULL ? 0 : load(path, reason, size);
    pthread_mutex_unlock(&load_lock);
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
