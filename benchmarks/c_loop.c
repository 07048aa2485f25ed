/*
 * The floor that the benchmarks compare with: reports are read over one session of libchrony, as a
 * C program would read them, and the values are not used.
 *
 *     c_loop LIBCHRONY ADDRESS
 *
 * reads lines "REPORT COUNT", and answers each with the wall time and the CPU time of one call, in
 * nanoseconds, or with nothing if there is no such report. "everything" is all of them, in turn.
 */
#include <poll.h>
#include <string.h>

#include "libchrony.h"

static int fd;
static session *s;

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

/* False: chronyd has it disabled, or refuses it. */
static bool read_report(const char *report)
{
    if (!finish(request_report_number_records(s, report)))
        return false;
    int records = get_report_number_records(s);
    for (int record = 0; record < records; record++) {
        if (!finish(request_record(s, report, record)))
            return false;
        read_fields(s);
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
