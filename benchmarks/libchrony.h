/*
 * libchrony, loaded at run time, for the C programs among the benchmarks.
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct session session;
enum { OK, UINTEGER = 1, INTEGER, FLOAT, TIMESPEC, STRING };

#define LIBCHRONY(X)                                              \
    X(int, open_socket, (const char *))                           \
    X(void, close_socket, (int))                                  \
    X(unsigned, init_session, (session **, int))                  \
    X(void, deinit_session, (session *))                          \
    X(bool, needs_response, (session *))                          \
    X(unsigned, process_response, (session *))                    \
    X(int, get_number_supported_reports, (void))                  \
    X(const char *, get_report_name, (int))                       \
    X(unsigned, request_report_number_records, (session *, const char *)) \
    X(int, get_report_number_records, (session *))                \
    X(unsigned, request_record, (session *, const char *, int))   \
    X(int, get_record_number_fields, (session *))                 \
    X(unsigned, get_field_type, (session *, int))                 \
    X(uint64_t, get_field_uinteger, (session *, int))             \
    X(int64_t, get_field_integer, (session *, int))               \
    X(double, get_field_float, (session *, int))                  \
    X(struct timespec, get_field_timespec, (session *, int))      \
    X(const char *, get_field_string, (session *, int))

#define POINTER(result, name, arguments) static result(*name) arguments;
LIBCHRONY(POINTER)

static uintptr_t seen; /* so that no reading is optimised away */

static void stop(const char *words)
{
    fprintf(stderr, "%s\n", words);
    exit(1);
}

static void load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW);
    if (library == NULL)
        stop(dlerror());
#define RESOLVE(result, name, arguments)                             \
    if ((*(void **)&name = dlsym(library, "chrony_" #name)) == NULL) \
        stop("no chrony_" #name);
    LIBCHRONY(RESOLVE)
}

static void read_field(session *s, int field)
{
    switch (get_field_type(s, field)) {
    case UINTEGER:
        seen += get_field_uinteger(s, field);
        break;
    case INTEGER:
        seen += (uintptr_t)get_field_integer(s, field);
        break;
    case FLOAT:
        seen += get_field_float(s, field) > 0.0;
        break;
    case TIMESPEC:
        seen += (uintptr_t)get_field_timespec(s, field).tv_nsec;
        break;
    case STRING:
        seen += (uintptr_t)get_field_string(s, field);
        break;
    }
}

static void read_fields(session *s)
{
    for (int i = 0, fields = get_record_number_fields(s); i < fields; i++)
        read_field(s, i);
}

static int64_t now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}
