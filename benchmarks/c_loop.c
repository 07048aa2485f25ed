/*
 * The floor that the benchmarks compare with: the reports read over one session of libchrony, as
 * a C program would, and nothing made of them.
 *
 *     c_loop LIBCHRONY ADDRESS
 *
 * reads lines "REPORT COUNT", and answers each with the wall time and the CPU time of one call, in
 * nanoseconds, or with nothing if there is no such report. "everything" is all of them, in turn.
 */
#include <dlfcn.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static int fd;
static session *s;
static uintptr_t seen; /* so that no reading is optimised away */

static void stop(const char *words)
{
    fprintf(stderr, "c_loop: %s\n", words);
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

static bool finish(unsigned error)
{
    struct pollfd event = {.fd = fd, .events = POLLIN};
    while (error == OK && needs_response(s)) {
        if (poll(&event, 1, 10000) != 1)
            stop("no answer");
        error = process_response(s);
    }
    return error == OK;
}

static void read_field(int field)
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

/* False: chronyd has it disabled, or refuses it. */
static bool read_report(const char *report)
{
    if (!finish(request_report_number_records(s, report)))
        return false;
    int records = get_report_number_records(s);
    for (int record = 0; record < records; record++) {
        if (!finish(request_record(s, report, record)))
            return false;
        for (int i = 0, fields = get_record_number_fields(s); i < fields; i++)
            read_field(i);
    }
    return true;
}

/* False: there is no such report, or chronyd has it disabled. */
static bool call(const char *report)
{
    bool everything = strcmp(report, "everything") == 0, found = false;
    for (int i = 0, reports = get_number_supported_reports(); i < reports; i++) {
        const char *name = get_report_name(i); /* libchrony keeps the pointer: one of its own */
        if (everything || strcmp(report, name) == 0)
            found |= read_report(name);
    }
    return found;
}

static int64_t now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

int main(int count, char **arguments)
{
    char report[32];
    int calls;
    if (count != 3)
        stop("usage: c_loop LIBCHRONY ADDRESS");
    load(arguments[1]);
    if ((fd = open_socket(arguments[2])) < 0 || init_session(&s, fd) != OK)
        stop("no chronyd there");
    while (scanf("%31s %d", report, &calls) == 2) {
        int64_t wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
        bool found = true;
        for (int i = 0; i < calls && found; i++)
            found = call(report);
        cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        wall = now(CLOCK_MONOTONIC) - wall;
        if (found)
            printf("%.1f %.1f", (double)wall / calls, (double)cpu / calls);
        printf("\n");
        fflush(stdout);
    }
    deinit_session(s);
    close_socket(fd);
    return seen == 1; /* as good as never */
}
