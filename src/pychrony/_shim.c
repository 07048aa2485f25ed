/*
 * Reads whole reports from chronyd through libchrony, without ever blocking in it.
 *
 * A client holds slots: a socket with a libchrony session on it, which has one request in flight
 * at most. A batch is a set of reports to ask for; step() moves it on as far as it goes without
 * waiting: it takes in what has arrived, asks again for what is overdue, and hands the next
 * requests to slots that are free. shim_run() waits between the steps.
 *
 * An exchange that did not end cleanly could surface in the next answer on its session, and a Unix
 * socket does not survive chronyd's restart: such a slot is closed as a whole, and opened anew.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "_shim.h"

#if UINTPTR_MAX < UINT64_MAX
#error "pychrony needs a 64-bit system: elsewhere the width of libchrony's times is not known"
#endif

/* ---- The library ---- */

#if defined(__has_include)
#if __has_include(<chrony.h>)
#include <chrony.h>
#define HAVE_CHRONY_H
#endif
#endif

#ifndef HAVE_CHRONY_H
typedef struct chrony_session_t chrony_session;
typedef unsigned int chrony_err;
typedef unsigned int chrony_field_type;
typedef unsigned int chrony_field_content;
#endif

enum { OK = 0, NO_MEMORY = 1, SEND_FAILED = 5, RECV_FAILED = 6, UNEXPECTED_STATUS = 11 };
enum { UINTEGER = 1, INTEGER = 2, FLOAT = 3, TIMESPEC = 4, STRING = 5 };
enum { CONTENT_NONE = 0, CONTENT_ENUM = 12, CONTENT_FLAGS = 14, CONTENT_ADDRESS = 15 };

/* What we use of libchrony: result, name, arguments. */
#define LIBCHRONY(X)                                                        \
    X(int, open_socket, (const char *))                                     \
    X(void, close_socket, (int))                                            \
    X(const char *, get_error_string, (chrony_err))                         \
    X(chrony_err, init_session, (chrony_session **, int))                   \
    X(void, deinit_session, (chrony_session *))                             \
    X(bool, needs_response, (chrony_session *))                             \
    X(chrony_err, process_response, (chrony_session *))                     \
    X(int, get_number_supported_reports, (void))                            \
    X(const char *, get_report_name, (int))                                 \
    X(chrony_err, request_report_number_records, (chrony_session *, const char *)) \
    X(int, get_report_number_records, (chrony_session *))                   \
    X(chrony_err, request_record, (chrony_session *, const char *, int))    \
    X(int, get_record_number_fields, (chrony_session *))                    \
    X(const char *, get_field_name, (chrony_session *, int))                \
    X(chrony_field_type, get_field_type, (chrony_session *, int))           \
    X(chrony_field_content, get_field_content, (chrony_session *, int))     \
    X(uint64_t, get_field_uinteger, (chrony_session *, int))                \
    X(int64_t, get_field_integer, (chrony_session *, int))                  \
    X(double, get_field_float, (chrony_session *, int))                     \
    X(struct timespec, get_field_timespec, (chrony_session *, int))         \
    X(const char *, get_field_string, (chrony_session *, int))              \
    X(const char *, get_field_constant_name, (chrony_session *, int, uint64_t))

#ifdef HAVE_CHRONY_H
/* A declaration of ours that differs from the header's does not compile. */
#define SAME_DECLARATION(result, name, arguments) result chrony_##name arguments;
LIBCHRONY(SAME_DECLARATION)
_Static_assert(CHRONY_NO_MEMORY == NO_MEMORY, "chrony_err");
_Static_assert(CHRONY_OK == OK && CHRONY_SEND_FAILED == SEND_FAILED, "chrony_err");
_Static_assert(CHRONY_RECV_FAILED == RECV_FAILED, "chrony_err");
_Static_assert(CHRONY_UNEXPECTED_STATUS == UNEXPECTED_STATUS, "chrony_err");
_Static_assert(CHRONY_TYPE_UINTEGER == UINTEGER && CHRONY_TYPE_INTEGER == INTEGER, "type");
_Static_assert(CHRONY_TYPE_FLOAT == FLOAT && CHRONY_TYPE_TIMESPEC == TIMESPEC, "type");
_Static_assert(CHRONY_TYPE_STRING == STRING && CHRONY_CONTENT_NONE == CONTENT_NONE, "type");
_Static_assert(CHRONY_CONTENT_ENUM == CONTENT_ENUM, "chrony_field_content");
_Static_assert(CHRONY_CONTENT_FLAGS == CONTENT_FLAGS, "chrony_field_content");
_Static_assert(CHRONY_CONTENT_ADDRESS == CONTENT_ADDRESS, "chrony_field_content");
#endif

#define POINTER(result, name, arguments) result(*name) arguments;
static struct {
    LIBCHRONY(POINTER)
} chrony;
static void *loaded;

/* libchrony formats strings into one static buffer, and our shapes are shared: every use of either
   holds this lock, for as long as a call that does not block takes. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Counts forks: a child must leave its parent's sockets and sequence numbers alone. */
static unsigned int generation;

static void take_lock(void) { pthread_mutex_lock(&lock); }
static void drop_lock(void) { pthread_mutex_unlock(&lock); }
static void enter_child(void)
{
    generation++;
    drop_lock();
}

/* Resolve all of libchrony's functions; returns the name of one that is missing, or NULL. */
static const char *resolve(void *handle)
{
#define RESOLVE(result, name, arguments)                              \
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
    pthread_atfork(take_lock, drop_lock, enter_child);
    loaded = handle;
    return 0;
}

int shim_load(const char *path, char *reason, size_t size)
{
    take_lock();
    int result = loaded != NULL ? 0 : load(path, reason, size);
    drop_lock();
    return result;
}

const char *shim_path(void)
{
    Dl_info info;
    if (loaded == NULL || dladdr(*(void **)(&chrony.open_socket), &info) == 0)
        return NULL;
    return info.dli_fname;
}

const char *shim_report(int report) { return chrony.get_report_name(report); }

const char *shim_error(int code) { return chrony.get_error_string((chrony_err)code); }

/* ---- Shapes ---- */

enum { MAX_FIELDS = (int)(sizeof((shim_shape *)0)->fields / sizeof(shim_field)) };
enum { STRING_SIZE = 48 }; /* an IPv6 address has 45 characters at most */

static shim_shape shapes[64]; /* libchrony has a dozen */
static int shapes_known;

const shim_shape *shim_get_shape(int shape)
{
    take_lock();
    const shim_shape *found = shape >= 0 && shape < shapes_known ? &shapes[shape] : NULL;
    drop_lock();
    return found;
}

static unsigned int width(int type)
{
    switch (type) {
    case UINTEGER:
    case INTEGER:
    case FLOAT:
        return 8;
    case TIMESPEC:
        return 16;
    case STRING:
        return STRING_SIZE;
    default:
        return 0;
    }
}

static bool has_shape(chrony_session *session, int joined, const shim_shape *shape)
{
    if (shape->count != chrony.get_record_number_fields(session) + joined)
        return false;
    for (int i = joined; i < shape->count; i++) {
        const shim_field *field = &shape->fields[i];
        const char *name = chrony.get_field_name(session, i - joined);
        if ((int)chrony.get_field_type(session, i - joined) != field->type || name == NULL ||
            strncmp(name, field->name, sizeof(field->name) - 1) != 0)
            return false;
    }
    return joined == 0 || strcmp(shape->fields[0].name, "address") == 0;
}

static void set_field(shim_field *field, const char *name, int type, int content)
{
    snprintf(field->name, sizeof(field->name), "%s", name != NULL ? name : "");
    field->type = type;
    /* Whether an address is set is a matter of the record, not of its shape. */
    field->content = type == STRING ? CONTENT_ADDRESS : content;
}

/* The number of the shape of the record that `session` holds; -1 if it is beyond our tables. */
static int find_shape(chrony_session *session, int joined, int likely)
{
    int count = chrony.get_record_number_fields(session) + joined;
    if (likely >= 0 && has_shape(session, joined, &shapes[likely]))
        return likely;
    for (int i = 0; i < shapes_known; i++)
        if (has_shape(session, joined, &shapes[i]))
            return i;
    if (count > MAX_FIELDS || shapes_known == (int)(sizeof(shapes) / sizeof(shapes[0])))
        return -1;
    shim_shape *shape = &shapes[shapes_known];
    shape->count = count;
    if (joined)
        set_field(&shape->fields[0], "address", STRING, CONTENT_ADDRESS);
    for (int i = joined; i < count; i++)
        set_field(&shape->fields[i], chrony.get_field_name(session, i - joined),
                  (int)chrony.get_field_type(session, i - joined),
                  (int)chrony.get_field_content(session, i - joined));
    return shapes_known++;
}

/* ---- Clients ---- */

enum { MAX_SESSIONS = 16 }; /* from eight on, chronyd itself is what takes the time */
enum { NUMBER = -1, NUMBER_ASKED = -2 }; /* in place of a record: their number */
enum { SECOND = 1000000000, SLICE = SECOND / 5, LONGEST_PATIENCE = 4 };
enum { MAX_RECORDS = 65536, MAX_ROUNDS = 16 };

enum state {
    IDLE,    /* nothing to do */
    BLOCKED, /* a request is to be sent; chronyd's queue is full */
    WAITING, /* a request is out */
    HELD,    /* an answer is here; the caller's memory is full */
    LATER    /* chronyd is away; try again when it is time */
};

struct slot {
    int fd; /* -1: closed */
    chrony_session *session;
    enum state state;
    int ask;
    int round;   /* of the ask, when this was asked */
    int record;
    bool joining; /* the request in flight is for the source's address */
    bool fresh;   /* the socket was opened for this very request */
    bool ready;
    int error;         /* why chronyd was away */
    int system;
    int64_t again;     /* when to ask again */
    int64_t interval;  /* since it was asked last */
    char address[STRING_SIZE];
};

struct shim_client {
    char address[128]; /* the longest path of a Unix socket has 107 characters */
    unsigned int generation;
    int batches;
    int sessions;
    struct slot slots[MAX_SESSIONS];
};

static void close_slot(shim_client *client, struct slot *slot)
{
    if (slot->session != NULL)
        chrony.deinit_session(slot->session);
    if (slot->fd >= 0) {
        if (client->generation == generation)
            chrony.close_socket(slot->fd);
        else
            close(slot->fd); /* close_socket would delete the parent's socket file */
    }
    slot->session = NULL;
    slot->fd = -1;
    slot->state = IDLE;
}

/* Open a socket and a session on it. Returns 0, or an error with errno set. */
static int open_slot(shim_client *client, struct slot *slot)
{
    slot->fd = chrony.open_socket(client->address);
    if (slot->fd < 0)
        return SHIM_UNREACHABLE;
    /* libchrony's recv() and send() would block, and its socket would outlive an exec. */
    int flags = fcntl(slot->fd, F_GETFL), error = SHIM_UNREACHABLE;
    if (flags >= 0 && fcntl(slot->fd, F_SETFL, flags | O_NONBLOCK) == 0 &&
        fcntl(slot->fd, F_SETFD, FD_CLOEXEC) == 0)
        error = (int)chrony.init_session(&slot->session, slot->fd);
    if (error == OK)
        return 0;
    int system = errno;
    slot->session = NULL;
    close_slot(client, slot);
    errno = system;
    return error;
}

/* Note where the socket leads, so that others are opened to the same place. */
static void note_peer(shim_client *client, int fd)
{
    if (client->address[0] == '/')
        return;
    union {
        struct sockaddr any;
        struct sockaddr_un un;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        char room[sizeof(struct sockaddr_un) + 1]; /* a path of full length has no end */
    } peer;
    char host[INET6_ADDRSTRLEN] = "";
    socklen_t length = sizeof(struct sockaddr_un);
    memset(&peer, 0, sizeof(peer));
    if (getpeername(fd, &peer.any, &length) != 0)
        return;
    if (peer.any.sa_family == AF_UNIX) {
        snprintf(client->address, sizeof(client->address), "%s", peer.un.sun_path);
    } else if (peer.any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &peer.in.sin_addr, host, sizeof(host));
        snprintf(client->address, sizeof(client->address), "%s:%d", host, ntohs(peer.in.sin_port));
    } else if (peer.any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &peer.in6.sin6_addr, host, sizeof(host));
        snprintf(client->address, sizeof(client->address), "[%s]:%d", host,
                 ntohs(peer.in6.sin6_port));
    }
}

shim_client *shim_open(const char *address, int sessions, int *error, int *system)
{
    shim_client *client = calloc(1, sizeof(*client));
    *error = client != NULL ? OK : NO_MEMORY;
    *system = errno;
    if (client == NULL)
        return NULL;
    take_lock();
    client->generation = generation;
    client->sessions = sessions < MAX_SESSIONS ? sessions : MAX_SESSIONS;
    for (int i = 0; i < MAX_SESSIONS; i++)
        client->slots[i].fd = -1;
    snprintf(client->address, sizeof(client->address), "%s", address);
    *error = open_slot(client, &client->slots[0]);
    *system = errno;
    if (*error == OK)
        note_peer(client, client->slots[0].fd);
    drop_lock();
    if (*error == OK)
        return client;
    free(client);
    return NULL;
}

const char *shim_address(const shim_client *client) { return client->address; }

void shim_close(shim_client *client)
{
    take_lock();
    for (int i = 0; i < MAX_SESSIONS; i++)
        close_slot(client, &client->slots[i]);
    drop_lock();
    free(client);
}

/* ---- Answers ---- */

static bool in_flight(const struct slot *slot) { return slot->state != IDLE; }

static bool finished(const shim_ask *ask)
{
    return ask->error != OK || (ask->records >= 0 && ask->left == 0);
}

static void fail(shim_ask *ask, int error, int system)
{
    if (finished(ask))
        return;
    ask->error = error;
    ask->system = system;
}

/* Give up what is in flight, and all that is not finished. */
static void fail_all(shim_batch *batch, int error, int system)
{
    for (int i = 0; i < MAX_SESSIONS; i++)
        if (in_flight(&batch->client->slots[i]))
            close_slot(batch->client, &batch->client->slots[i]);
    for (int i = 0; i < batch->asked; i++)
        fail(&batch->asks[i], error, system);
}

/* Ask for the number of records, and then for the records, from the start. */
static void restart(shim_ask *ask)
{
    ask->records = -1;
    ask->next = NUMBER;
    ask->left = 0;
    ask->round++;
}

static void copy_string(char *to, const char *text)
{
    size_t length = text != NULL ? strnlen(text, STRING_SIZE - 1) : 0;
    memset(to, 0, STRING_SIZE);
    to[0] = (char)length;
    if (length > 0)
        memcpy(to + 1, text, length);
}

/* Copy the value of a field to `to`, in the form that `shim_place` describes. */
static void copy_value(char *to, chrony_session *session, int field, int type)
{
    if (type == UINTEGER) {
        uint64_t value = chrony.get_field_uinteger(session, field);
        memcpy(to, &value, sizeof(value));
    } else if (type == INTEGER) {
        int64_t value = chrony.get_field_integer(session, field);
        memcpy(to, &value, sizeof(value));
    } else if (type == FLOAT) {
        double value = chrony.get_field_float(session, field);
        memcpy(to, &value, sizeof(value));
    } else if (type == TIMESPEC) {
        struct timespec value = chrony.get_field_timespec(session, field);
        int64_t parts[2] = {value.tv_sec, value.tv_nsec};
        memcpy(to, parts, sizeof(parts));
    } else if (type == STRING) {
        copy_string(to, chrony.get_field_string(session, field));
    }
}

/* Append `text` and `end` behind what is used; beyond the room there is, only count. */
static void append(shim_batch *batch, const char *text, char end)
{
    size_t length = strlen(text);
    if (batch->used + length + 1 <= batch->size) {
        memcpy(batch->bytes + batch->used, text, length);
        batch->bytes[batch->used + length] = end;
    }
    batch->used += length + 1;
}

/* Append the names that apply to a field, a line each, and a zero byte. */
static void append_names(shim_batch *batch, chrony_session *session, int field)
{
    uint64_t value = chrony.get_field_uinteger(session, field);
    int content = (int)chrony.get_field_content(session, field);
    if (content == CONTENT_ENUM) {
        const char *name = chrony.get_field_constant_name(session, field, value);
        if (name != NULL)
            append(batch, name, '\n');
    }
    for (uint64_t flag = 1; content == CONTENT_FLAGS && flag != 0; flag <<= 1) {
        const char *name =
            (value & flag) != 0 ? chrony.get_field_constant_name(session, field, flag) : NULL;
        if (name != NULL)
            append(batch, name, '\n');
    }
    append(batch, "", '\0');
}

/* Copy the record in `slot` to the batch's bytes. False: they are too few. */
static bool copy_record(shim_batch *batch, const struct slot *slot, shim_ask *ask)
{
    shim_place *place = &batch->places[ask->first + slot->record];
    int joined = (ask->flags & SHIM_JOINED) != 0;
    size_t start = batch->used, at = start;
    if (chrony.get_record_number_fields(slot->session) == 0)
        return true;
    int number = find_shape(slot->session, joined, ask->shape);
    if (number < 0) {
        ask->records = chrony.get_record_number_fields(slot->session);
        ask->error = SHIM_ABSURD;
        return true;
    }
    const shim_shape *shape = &shapes[number];
    for (int i = 0; i < shape->count; i++)
        batch->used += width(shape->fields[i].type);
    for (int i = joined; (ask->flags & SHIM_NAMED) != 0 && i < shape->count; i++)
        append_names(batch, slot->session, i - joined);
    size_t end = batch->used;
    if (end > batch->size) {
        batch->wanted_size = end;
        batch->used = start;
        return false;
    }
    if (joined) {
        memcpy(batch->bytes + at, slot->address, STRING_SIZE);
        at += STRING_SIZE;
    }
    for (int i = joined; i < shape->count; i++) {
        copy_value(batch->bytes + at, slot->session, i - joined, shape->fields[i].type);
        at += width(shape->fields[i].type);
    }
    ask->shape = place->shape = number;
    place->offset = (unsigned int)start;
    place->size = (unsigned int)(end - start);
    return true;
}

/* Take the number of records, and places for them. False: there are too few. */
static bool take_number(shim_batch *batch, const struct slot *slot, shim_ask *ask)
{
    int number = chrony.get_report_number_records(slot->session);
    if (number < 0 || number > MAX_RECORDS) {
        ask->error = SHIM_ABSURD;
        ask->records = number;
        return true;
    }
    if (batch->placed + number > batch->capacity) {
        batch->wanted_capacity = batch->placed + number;
        return false;
    }
    ask->first = batch->placed;
    batch->placed += number;
    for (int i = ask->first; i < batch->placed; i++)
        batch->places[i].shape = -1;
    ask->records = ask->left = number;
    ask->next = 0;
    return true;
}

static bool stale(const struct slot *slot, const shim_ask *ask)
{
    return ask->error != OK || ask->round != slot->round;
}

static void send_request(shim_batch *batch, struct slot *slot, int64_t now);

/* Note the address of the source whose record `slot` holds; libchrony takes it from there too. */
static void note_source(struct slot *slot)
{
    int field = 0, count = chrony.get_record_number_fields(slot->session);
    while (field < count && (int)chrony.get_field_type(slot->session, field) != STRING)
        field++;
    copy_string(slot->address, chrony.get_field_string(slot->session, field));
    slot->joining = false;
}

/* Take the answer that `slot` holds. */
static void settle(shim_batch *batch, struct slot *slot, int64_t now)
{
    shim_ask *ask = &batch->asks[slot->ask];
    slot->state = IDLE;
    if (stale(slot, ask))
        return;
    if (slot->joining) {
        note_source(slot);
        send_request(batch, slot, now);
    } else if (slot->record == NUMBER) {
        if (!take_number(batch, slot, ask))
            slot->state = HELD;
    } else if (copy_record(batch, slot, ask)) {
        ask->left--;
    } else {
        slot->state = HELD;
    }
}

/* ---- Requests ---- */

static int64_t clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static chrony_err request(const shim_batch *batch, const struct slot *slot)
{
    const shim_ask *ask = &batch->asks[slot->ask];
    /* libchrony keeps the pointer to the name for a second request: its own names last. */
    const char *name = chrony.get_report_name(ask->report);
    if (slot->record == NUMBER)
        return chrony.request_report_number_records(slot->session, name);
    return chrony.request_record(slot->session, slot->joining ? "sourcestats" : name, slot->record);
}

/* chronyd is not there. It may come back while a call waits that it has served before; a call
   that it has not served fails at once. */
static void miss(shim_batch *batch, struct slot *slot, int error, int system)
{
    close_slot(batch->client, slot);
    if (batch->answers == 0 && slot->interval == batch->patience) {
        fail_all(batch, error, system);
        return;
    }
    slot->state = LATER;
    slot->error = error;
    slot->system = system;
}

/* Forget what is left in the session of a request that failed: libchrony would mix it into a
   later answer. Nothing is under way on the socket. */
static void renew_session(shim_client *client, struct slot *slot)
{
    chrony.deinit_session(slot->session);
    slot->session = NULL;
    slot->state = IDLE;
    if (chrony.init_session(&slot->session, slot->fd) == OK)
        return;
    slot->session = NULL;
    close_slot(client, slot);
}

/* libchrony or chronyd refused a request. */
static void refuse(shim_batch *batch, struct slot *slot, int error)
{
    shim_ask *ask = &batch->asks[slot->ask];
    renew_session(batch->client, slot);
    if (stale(slot, ask))
        return;
    if (error == UNEXPECTED_STATUS && slot->record != NUMBER && !ask->single &&
        ask->round < MAX_ROUNDS)
        restart(ask); /* a source that was counted is gone */
    else
        fail(ask, error, 0);
}

/* Ask for the address first, where the record is to have one: both from the same session, which
   thereby are of the same source. */
static void join_again(const shim_batch *batch, struct slot *slot)
{
    int flags = batch->asks[slot->ask].flags;
    slot->joining = (flags & SHIM_JOINED) != 0 && slot->record != NUMBER;
}

/* Send the request that `slot` stands for, on a new socket if the one at hand is of no use. */
static void send_request(shim_batch *batch, struct slot *slot, int64_t now)
{
    for (;;) {
        if (slot->fd < 0) {
            int error = open_slot(batch->client, slot);
            if (error != 0) {
                miss(batch, slot, error, errno);
                return;
            }
            slot->fresh = true;
            join_again(batch, slot);
        }
        chrony_err error = request(batch, slot);
        if (error == OK)
            break;
        if (error != SEND_FAILED) {
            refuse(batch, slot, (int)error);
            return;
        }
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN || errno == ENOBUFS) {
            slot->state = BLOCKED;
            return;
        }
        if (slot->fresh) {
            miss(batch, slot, SHIM_UNREACHABLE, errno);
            return;
        }
        close_slot(batch->client, slot); /* as after a restart of chronyd */
    }
    if (chrony.needs_response(slot->session)) {
        slot->state = WAITING;
        return;
    }
    /* Answered by libchrony: the number of records of a report that is no list, or the absence
       of a record that reference clocks lack. */
    if (slot->record == NUMBER)
        batch->asks[slot->ask].single = 1;
    settle(batch, slot, now);
}

/* Take in what has arrived for `slot`. */
static void receive(shim_batch *batch, struct slot *slot, int64_t now)
{
    errno = 0;
    chrony_err error = chrony.process_response(slot->session);
    if (error == OK) {
        if (chrony.needs_response(slot->session))
            return; /* a datagram to ignore, or libchrony asked for more */
        batch->answers++;
        settle(batch, slot, now);
    } else if (error == RECV_FAILED && (errno == EAGAIN || errno == EINTR)) {
        return;
    } else if (error == SEND_FAILED && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS)) {
        renew_session(batch->client, slot); /* its second request was not sent: begin again */
        join_again(batch, slot);
        slot->state = BLOCKED;
    } else if (error != RECV_FAILED && error != SEND_FAILED) {
        batch->answers++;
        refuse(batch, slot, (int)error);
    } else if (slot->fresh) {
        miss(batch, slot, SHIM_UNREACHABLE, errno);
    } else {
        close_slot(batch->client, slot); /* the error may be a late one, of an earlier call */
        send_request(batch, slot, now);
    }
}

/* Send the request that `slot` has just been given, or must send anew. */
static void begin(shim_batch *batch, struct slot *slot, int64_t now)
{
    join_again(batch, slot);
    slot->again = now + slot->interval;
    send_request(batch, slot, now);
}

/* Ask again for what got no answer, on a new socket: the old one may be why. */
static void repeat(shim_batch *batch, struct slot *slot, int64_t now)
{
    bool passed_by = stale(slot, &batch->asks[slot->ask]);
    close_slot(batch->client, slot);
    if (passed_by)
        return;
    if (slot->interval < LONGEST_PATIENCE * (int64_t)SECOND)
        slot->interval *= 2;
    begin(batch, slot, now);
}

/* ---- The batch ---- */

/* How many requests are left to hand out. */
static int pending(const shim_batch *batch)
{
    int count = 0;
    for (int i = 0; i < batch->asked; i++) {
        const shim_ask *ask = &batch->asks[i];
        if (finished(ask))
            continue;
        if (ask->next == NUMBER)
            count++;
        else if (ask->next >= 0)
            count += ask->records - ask->next;
    }
    return count;
}

/* Give `slot` the next request: the numbers of records first. */
static void give(shim_batch *batch, struct slot *slot, int64_t now)
{
    shim_ask *ask = NULL;
    for (int i = 0; i < batch->asked && (ask == NULL || ask->next != NUMBER); i++) {
        shim_ask *other = &batch->asks[i];
        bool number = other->next == NUMBER;
        bool record = other->next >= 0 && other->next < other->records;
        if (!finished(other) && (number || (record && ask == NULL)))
            ask = other;
    }
    if (ask == NULL)
        return;
    slot->ask = (int)(ask - batch->asks);
    slot->round = ask->round;
    slot->record = ask->next;
    ask->next = ask->next == NUMBER ? NUMBER_ASKED : ask->next + 1;
    slot->interval = batch->patience;
    begin(batch, slot, now);
}

/* A slot for one of `wanted` requests; NULL if these must wait for one. Opening a socket takes as
   long as a few requests, so a client opens more of them only for long lists, or if it is kept. */
static struct slot *vacant(shim_batch *batch, int wanted)
{
    shim_client *client = batch->client;
    struct slot *closed = NULL;
    int busy = 0;
    for (int i = 0; i < client->sessions; i++) {
        struct slot *slot = &client->slots[i];
        if (in_flight(slot)) {
            busy++;
        } else if (slot->fd >= 0) {
            slot->fresh = false;
            return slot;
        } else if (closed == NULL) {
            closed = slot;
        }
    }
    if (closed == NULL || busy == 0)
        return closed;
    if (batch->full || (busy >= client->batches && busy >= wanted / 8))
        return NULL;
    if (open_slot(client, closed) != 0) {
        batch->full = 1; /* those that are open will do */
        return NULL;
    }
    closed->fresh = true;
    return closed;
}

/* In a forked child: leave the parent's sockets and sequence numbers to the parent. */
static void leave_parent(shim_batch *batch)
{
    shim_client *client = batch->client;
    if (client->generation == generation)
        return;
    for (int i = 0; i < batch->asked; i++)
        if (!finished(&batch->asks[i]))
            restart(&batch->asks[i]);
    for (int i = 0; i < MAX_SESSIONS; i++)
        close_slot(client, &client->slots[i]);
    client->generation = generation;
}

/* Move the batch on as far as it goes without waiting. */
static void step(shim_batch *batch, int64_t now)
{
    shim_client *client = batch->client;
    batch->wanted_size = 0;
    batch->wanted_capacity = 0;
    leave_parent(batch);
    for (int i = 0; i < client->sessions; i++) {
        struct slot *slot = &client->slots[i];
        bool ready = slot->ready;
        slot->ready = false;
        if (slot->state == HELD)
            settle(batch, slot, now);
        else if (slot->state == BLOCKED && ready)
            send_request(batch, slot, now);
        else if (slot->state == WAITING && ready)
            receive(batch, slot, now);
        if (in_flight(slot) && slot->state != HELD && now >= slot->again)
            repeat(batch, slot, now);
    }
    for (int wanted = pending(batch); wanted > 0; wanted = pending(batch)) {
        struct slot *slot = vacant(batch, wanted);
        if (slot == NULL)
            break;
        give(batch, slot, now);
    }
}

static bool done(const shim_batch *batch)
{
    for (int i = 0; i < batch->asked; i++)
        if (!finished(&batch->asks[i]))
            return false;
    for (int i = 0; i < batch->client->sessions; i++)
        if (in_flight(&batch->client->slots[i]))
            return false;
    return true;
}

/* The deadline has passed. */
static void expire(shim_batch *batch)
{
    int error = SHIM_TIMEOUT, system = 0;
    for (int i = 0; i < batch->client->sessions; i++) {
        if (batch->client->slots[i].state == LATER) {
            error = batch->client->slots[i].error;
            system = batch->client->slots[i].system;
        }
    }
    fail_all(batch, error, system);
}

/* Wait for an event on a socket, until `end` at most. False: a signal came. */
static bool wait_until(shim_client *client, int64_t end, int64_t now)
{
    struct pollfd events[MAX_SESSIONS];
    struct slot *slots[MAX_SESSIONS];
    nfds_t count = 0;
    for (int i = 0; i < client->sessions; i++) {
        struct slot *slot = &client->slots[i];
        if (in_flight(slot) && slot->again < end)
            end = slot->again;
        if (slot->state != WAITING && slot->state != BLOCKED)
            continue;
        events[count].fd = slot->fd;
        events[count].events = slot->state == WAITING ? POLLIN : POLLOUT;
        slots[count++] = slot;
    }
    int64_t time = end > now ? end - now : 0;
    int found = poll(events, count, (int)((time + 999999) / 1000000));
    for (nfds_t i = 0; found > 0 && i < count; i++)
        slots[i]->ready = events[i].revents != 0;
    return found >= 0;
}

int shim_run(shim_batch *batch)
{
    int64_t now = clock_now(), slice = now + SLICE;
    for (;;) {
        take_lock();
        step(batch, now);
        bool late = now >= batch->deadline && !done(batch);
        if (late)
            expire(batch);
        drop_lock();
        if (late || done(batch))
            return SHIM_DONE;
        if (batch->wanted_size > batch->size || batch->wanted_capacity > batch->capacity)
            return SHIM_ROOM;
        if (now >= slice)
            return SHIM_PAUSE;
        if (!wait_until(batch->client, batch->deadline < slice ? batch->deadline : slice, now))
            return SHIM_PAUSE;
        now = clock_now();
    }
}

int shim_start(shim_batch *batch, int64_t timeout)
{
    for (int i = 0; i < batch->client->sessions; i++)
        if (in_flight(&batch->client->slots[i]))
            shim_stop(batch); /* an exception kept the last batch from its end */
    batch->used = 0;
    batch->placed = 0;
    batch->answers = 0;
    batch->full = 0;
    batch->deadline = timeout >= 0 ? clock_now() + timeout : INT64_MAX;
    batch->patience = timeout >= 0 && timeout < 4 * (int64_t)SECOND ? timeout / 4 : SECOND;
    if (batch->client->batches < MAX_SESSIONS)
        batch->client->batches++;
    for (int i = 0; i < batch->asked; i++) {
        restart(&batch->asks[i]);
        batch->asks[i].round = 0;
        batch->asks[i].error = OK;
        batch->asks[i].system = 0;
        batch->asks[i].single = 0;
    }
    return shim_run(batch);
}

void shim_stop(shim_batch *batch)
{
    take_lock();
    fail_all(batch, SHIM_TIMEOUT, 0);
    drop_lock();
}
