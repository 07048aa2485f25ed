/*
 * Fuzzes the engine: libFuzzer's input is a script for a chronyd that may send anything at all.
 *
 * The engine's epoll_wait() and clock are ours (the compiler renames them): in epoll_wait() the
 * scripted chronyd takes its turn, and time passes only there, so that a second of waiting takes
 * none. libchrony and the sockets are real. PYCHRONY_LIBCHRONY names libchrony; `tools/run fuzz`
 * compiles this and runs it.
 */
#include "batch.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

int turn_epoll_wait(int epoll, struct epoll_event *events, int most, int timeout);
int turn_clock(clockid_t clock, struct timespec *time);

#define REQUIRE(condition)                                                  \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "line %d: not so: %s\n", __LINE__, #condition); \
            abort();                                                        \
        }                                                                   \
    } while (0)

/* ---- The input ---- */

static const uint8_t *input;
static size_t input_left;

static uint8_t next_byte(void)
{
    if (input_left == 0)
        return 0;
    input_left--;
    return *input++;
}

static size_t next_bytes(uint8_t *to, size_t size)
{
    size_t taken = size < input_left ? size : input_left;
    memcpy(to, input, taken);
    memset(to + taken, 0, size - taken);
    input += taken;
    input_left -= taken;
    return taken;
}

/* ---- The chronyd ---- */

static char folder[32] = "/dev/shm/fuzz.XXXXXX"; /* in memory, or else in /tmp */
static char path[64], udp_address[64];
static in_port_t port;
static bool over_unix;
static int server = -1;

/* A UDP socket at our port of 127.0.0.1; at any free one, which then is ours, to begin with. */
static int bind_port(void)
{
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = port};
    socklen_t size = sizeof(place);
    int found = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), yes = 1;
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (port != 0)
        REQUIRE(setsockopt(found, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof(yes)) == 0);
    REQUIRE(bind(found, (struct sockaddr *)&place, size) == 0);
    REQUIRE(getsockname(found, (struct sockaddr *)&place, &size) == 0);
    if (port == 0) { /* keep it while the server is away: connected to itself, it hears nobody */
        REQUIRE(setsockopt(found, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof(yes)) == 0);
        REQUIRE(connect(found, (struct sockaddr *)&place, size) == 0);
        port = place.sin_port;
        snprintf(udp_address, sizeof(udp_address), "127.0.0.1:%d", ntohs(port));
    }
    return found;
}

static void start_server(void)
{
    if (!over_unix) {
        server = bind_port();
        return;
    }
    struct sockaddr_un place = {.sun_family = AF_UNIX};
    snprintf(place.sun_path, sizeof(place.sun_path), "%s", path);
    unlink(path);
    server = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    REQUIRE(bind(server, (struct sockaddr *)&place, sizeof(place)) == 0);
}

static void stop_server(bool crash)
{
    if (server < 0)
        return;
    close(server);
    server = -1;
    if (over_unix && !crash)
        unlink(path);
}

static const struct reply {
    int command, code, body;
} replies[] = {
    {14, 2, 4},    {15, 3, 48},  {33, 5, 76},   {34, 6, 56},  {35, 7, 28},
    {44, 12, 20},  {51, 13, 24}, {54, 14, 20},  {54, 22, 32}, {54, 24, 44},
    {54, 25, 168}, {57, 16, 124}, {57, 26, 144}, {67, 20, 24}, {69, 23, 48},
};

/* The answer to a request: mostly one that libchrony takes. Returns its length. */
static size_t answer(const uint8_t *request, uint8_t *to)
{
    const struct reply *reply = NULL;
    int command = request[4] << 8 | request[5], found = 0, choice = next_byte();
    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++)
        if (replies[i].command == command && (reply == NULL || found++ < choice % 4))
            reply = &replies[i];
    if (reply == NULL)
        return 0;
    memset(to, 0, 28);
    to[0] = 6;
    to[1] = 2;
    memcpy(to + 4, request + 4, 2);
    to[7] = (uint8_t)reply->code;
    memcpy(to + 16, request + 8, 4);
    next_bytes(to + 28, (size_t)reply->body);
    if (command == 14 && choice < 192) { /* a number that does not take all day */
        memset(to + 28, 0, 3);
        to[31] %= 24;
    }
    return 28 + (size_t)reply->body;
}

struct asker {
    struct sockaddr_storage place;
    socklen_t size;
};

static void send_to(const struct asker *client, const uint8_t *bytes, size_t size)
{
    if (server >= 0)
        sendto(server, bytes, size, MSG_DONTWAIT, (const struct sockaddr *)&client->place,
               client->size);
}

static struct {
    struct asker client;
    uint8_t bytes[256];
    size_t size;
} kept; /* an answer for later */

static int64_t now_ns;
static int requests;

/* Deal with one request as the input says. False: a signal is to come. */
static bool deal(const uint8_t *request, const struct asker *client)
{
    uint8_t bytes[2048] = {0};
    if (++requests > 1000) /* enough of this */
        return true;
    int turn = next_byte() % 16; /* 0, as when the input is at its end: just the answer */
    if (turn == 1) /* silence */
        return true;
    if (turn == 8 || turn == 9) { /* restarted, or gone */
        stop_server(next_byte() & 1);
        if (turn == 8)
            start_server();
        return true;
    }
    size_t size = answer(request, bytes);
    if (turn == 2) { /* an error */
        memset(bytes + 6, 0, 3);
        bytes[7] = 1;
        bytes[9] = next_byte();
        size = 28;
    } else if (turn == 3) { /* junk */
        size = next_byte() * 8U;
        next_bytes(bytes, size);
    } else if (turn == 4) { /* cut or filled up */
        size = next_byte() * 8U;
    } else if (turn == 5) { /* a byte of it wrong */
        bytes[next_byte() % (size + 1)] ^= next_byte();
    } else if (turn == 6) { /* twice */
        send_to(client, bytes, size);
    } else if (turn == 7) { /* after another one */
        send_to(&kept.client, kept.bytes, kept.size);
        kept.client = *client;
        kept.size = size;
        memcpy(kept.bytes, bytes, size);
        return true;
    } else if (turn == 10) { /* after a while */
        now_ns += next_byte() * (int64_t)5000000;
    }
    send_to(client, bytes, size);
    return turn != 11; /* a signal */
}

int turn_epoll_wait(int epoll, struct epoll_event *events, int most, int timeout)
{
    uint8_t request[2048];
    struct asker client = {.size = sizeof(client.place)};
    bool signal = false;
    while (server >= 0 && recvfrom(server, request, sizeof(request), 0,
                                   (struct sockaddr *)&client.place, &client.size) >= 20) {
        signal = !deal(request, &client) || signal;
        client.size = sizeof(client.place);
    }
    if (signal) {
        errno = EINTR;
        return -1;
    }
    int found = epoll_wait(epoll, events, most, 0);
    if (found != 0)
        return found;
    REQUIRE(timeout >= 0 && timeout <= 201);
    now_ns += timeout * (int64_t)1000000;
    if (server < 0 && next_byte() % 4 == 1)
        start_server();
    return 0;
}

int turn_clock(clockid_t clock, struct timespec *time)
{
    (void)clock;
    time->tv_sec = now_ns / 1000000000;
    time->tv_nsec = now_ns % 1000000000;
    now_ns += 1000; /* no step is free: a loop that does not end is seen */
    return 0;
}

/* ---- One run ---- */

enum { MOST_ASKS = 10 };

static size_t width_of(int type)
{
    return type == STRING ? STRING_SIZE : type == TIMESPEC ? 16 : type == 0 ? 0 : 8;
}

static void check_ask(const shim_batch *batch, const shim_ask *ask)
{
    for (int i = 0; ask->error == 0 && i < ask->records; i++) {
        const shim_place *place = &ask->places[i];
        if (place->shape < 0)
            continue;
        const shim_shape *shape = shim_get_shape(place->shape);
        size_t size = 0;
        for (int field = 0; field < shape->count; field++)
            size += width_of(shape->fields[field].type);
        REQUIRE(place->offset + (size_t)place->size <= batch->size);
        REQUIRE(place->size >= size);
    }
}

/* As Python has them. */
static int flags_of(int report)
{
    static const char *const sources[] = {"sources", "sourcestats", "selectdata", "authdata",
                                          "ntpdata"};
    const char *name = chrony.get_report_name(report);
    int flags = 0;
    for (size_t i = 0; name != NULL && i < sizeof(sources) / sizeof(sources[0]); i++)
        flags |= strcmp(name, sources[i]) == 0 ? SHIM_SOURCES : 0;
    if (name != NULL && strcmp(name, "sourcestats") == 0)
        flags |= SHIM_ADDRESSES;
    if (name != NULL && strcmp(name, "ntpdata") == 0)
        flags |= SHIM_ADDRESSED;
    if (name != NULL && strcmp(name, "authdata") == 0)
        flags |= SHIM_ADDRESSED | SHIM_JOINED;
    return flags;
}

static void run_batch(shim_loop *loop, shim_client *client)
{
    shim_ask asks[MOST_ASKS];
    memset(asks, 0, sizeof(asks));
    int asked = 1 + next_byte() % MOST_ASKS;
    for (int i = 0; i < asked; i++) {
        uint8_t choice = next_byte();
        asks[i].report = choice % MOST_ASKS;
        asks[i].flags = flags_of(asks[i].report);
        if (choice >= 192)
            asks[i].flags = SHIM_NAMED | (asks[i].flags & ~SHIM_JOINED);
    }
    int64_t start = now_ns, timeout = (1 + next_byte()) * (int64_t)10000000;
    int stop = next_byte(), steps = 0;
    REQUIRE(shim_start(client, asks, asked, timeout, 0) >= 0);
    while (shim_batch_of(client)->running) {
        shim_run(loop, 200 * (int64_t)MILLISECOND);
        REQUIRE(++steps < 100000);
        if (stop >= 240 && steps > stop - 240)
            return; /* an exception: the next batch finds what this one has left */
    }
    const shim_batch *batch = shim_batch_of(client);
    REQUIRE(shim_finished(loop) == batch->tag && shim_finished(loop) < 0);
    for (int i = 0; i < asked; i++)
        check_ask(batch, &batch->asks[i]);
    /* what one step may take: a signal's slice, and what the input lets pass */
    REQUIRE(now_ns <= start + timeout + 16 * 256 * (int64_t)5000000);
}

static int folders(void)
{
    int count = 0;
    DIR *listing = opendir(folder);
    for (struct dirent *entry; (entry = readdir(listing)) != NULL;)
        count += strncmp(entry->d_name, "libchrony", 9) == 0;
    closedir(listing);
    return count;
}

static void remove_folder(void)
{
    unlink(path);
    rmdir(folder);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    char reason[512] = "PYCHRONY_LIBCHRONY is not set";
    const char *library = getenv("PYCHRONY_LIBCHRONY");
    if (library == NULL || shim_load(library, reason, sizeof(reason)) != 0) {
        fprintf(stderr, "%s\n", reason);
        exit(1);
    }
    if (mkdtemp(folder) == NULL) {
        strcpy(folder, "/tmp/fuzz.XXXXXX");
        REQUIRE(mkdtemp(folder) != NULL);
    }
    snprintf(path, sizeof(path), "%s/chronyd.sock", folder);
    atexit(remove_folder);
    bind_port();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input = data;
    input_left = size;
    kept.size = 0;
    now_ns = 1000000000;
    requests = 0;
    uint8_t choice = next_byte();
    over_unix = choice & 1;
    int lowest = dup(0), left;
    close(lowest);
    start_server();
    shim_loop *loop = shim_loop_new();
    shim_client *client = shim_client_new();
    int system;
    if (shim_open(client, loop, over_unix ? path : udp_address, 1 + (choice >> 4), &system) == 0)
        for (int batches = 1 + next_byte() % 4; batches > 0; batches--)
            run_batch(loop, client);
    shim_client_free(client);
    shim_loop_free(loop);
    stop_server(false);
    left = dup(0);
    close(left);
    REQUIRE(left == lowest);
    REQUIRE(!over_unix || folders() == 0);
    return 0;
}
