/*
 * The floor for many daemons: each is opened, asked for `tracking` and closed, with up to 64 of
 * them in flight, as a C program would do it with libchrony; the answers are not used.
 *
 *     c_many LIBCHRONY PORT
 *
 * reads lines "SCENARIO COUNT", and answers each with the wall time and the CPU time of one
 * address, in nanoseconds; it asks at as many addresses of 127.0.0.0/8, whatever the scenario.
 */
#include <sys/epoll.h>

#include "libchrony.h"

enum { IN_FLIGHT = 64 };

struct client {
    int fd;
    session *s;
};

static struct client clients[IN_FLIGHT];
static int epoll;

static void start(struct client *client, int number, const char *port)
{
    char address[64];
    number += 256; /* no address ends the network */
    snprintf(address, sizeof(address), "127.%d.%d.%d:%s", 1 + (number >> 16),
             number >> 8 & 255, number & 255, port);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    if ((client->fd = open_socket(address)) < 0 || init_session(&client->s, client->fd) != OK ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, client->fd, &event) != 0)
        stop("cannot open a socket");
    if (request_record(client->s, "tracking", 0) != OK)
        stop("cannot ask");
}

static bool finish(struct client *client)
{
    if (process_response(client->s) != OK)
        stop("a bad answer");
    if (needs_response(client->s))
        return false;
    read_fields(client->s);
    deinit_session(client->s);
    close_socket(client->fd);
    return true;
}

static void ask(int count, const char *port)
{
    int started = 0, finished = 0;
    for (; started < count && started < IN_FLIGHT; started++)
        start(&clients[started], started, port);
    while (finished < count) {
        struct epoll_event events[IN_FLIGHT];
        int ready = epoll_wait(epoll, events, IN_FLIGHT, 10000);
        if (ready < 1)
            stop("no answer");
        for (int i = 0; i < ready; i++) {
            if (!finish(events[i].data.ptr))
                continue;
            finished++;
            if (started < count)
                start(events[i].data.ptr, started++, port);
        }
    }
}

int main(int count, char **arguments)
{
    char scenario[32];
    int addresses;
    if (count != 3)
        stop("usage: c_many LIBCHRONY PORT");
    load(arguments[1]);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    while (scanf("%31s %d", scenario, &addresses) == 2) {
        int64_t wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
        ask(addresses, arguments[2]);
        cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        wall = now(CLOCK_MONOTONIC) - wall;
        printf("%.1f %.1f\n", (double)wall / addresses, (double)cpu / addresses);
        fflush(stdout);
    }
    return seen == 1; /* as good as never */
}
