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

#include "shim.h"
#include "libchrony.h"
#include "records.h"
#include "clients.h"

enum { NUMBER = -1, NUMBER_ASKED = -2 }; /* in place of a record: their number */
enum { SECOND = 1000000000, SLICE = SECOND / 5, LONGEST_PATIENCE = 4 };
enum { MAX_RECORDS = 65536, MAX_ROUNDS = 16 };

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

static bool has(const shim_ask *ask, int flag) { return (ask->flags & flag) != 0; }

/* Ask for the number of records, and then for the records, from the start. */
static void restart(shim_ask *ask)
{
    ask->records = -1;
    ask->next = NUMBER;
    ask->left = 0;
    ask->round++;
}

/* The unfinished ask with this flag; NULL if there is none. */
static shim_ask *unfinished(const shim_batch *batch, int flag)
{
    for (int i = 0; i < batch->asked; i++)
        if (has(&batch->asks[i], flag) && !finished(&batch->asks[i]))
            return &batch->asks[i];
    return NULL;
}


/* Read a list from the start, together with the one that is taken from it. */
static void start_again(const shim_batch *batch, shim_ask *ask)
{
    shim_ask *taken = has(ask, SHIM_JOINED) ? unfinished(batch, SHIM_JOINS) : NULL;
    restart(ask);
    if (taken != NULL)
        restart(taken);
}

/* Leave the sockets at hand, and what has been read of lists: chronyd was restarted, and its
   sources may be others now. */
static void start_over(shim_batch *batch)
{
    for (int i = 0; i < MAX_SESSIONS; i++)
        close_slot(batch->client, &batch->client->slots[i]);
    for (int i = 0; i < batch->asked; i++)
        if (!finished(&batch->asks[i]))
            restart(&batch->asks[i]);
}

/* Take the number of records, and places for them. False: there are too few. */
static bool take_number(shim_batch *batch, shim_ask *ask, int number)
{
    if (number < 0 || number > MAX_RECORDS) {
        ask->error = SHIM_ABSURD;
        ask->records = number;
        return true;
    }
    if (number > ask->room) {
        if (batch->placed + number > batch->capacity) {
            batch->wanted_capacity = batch->placed + number;
            return false;
        }
        ask->first = batch->placed;
        ask->room = number;
        batch->placed += number;
    }
    for (int i = ask->first; i < ask->first + number; i++)
        batch->places[i].shape = -1;
    ask->records = ask->left = number;
    ask->next = 0;
    return true;
}

/* Take a number of sources for all reports that have yet to ask for it. */
static bool share_number(shim_batch *batch, shim_ask *ask, int number)
{
    for (int i = 0; has(ask, SHIM_SOURCES) && i < batch->asked; i++) {
        shim_ask *other = &batch->asks[i];
        if (has(other, SHIM_SOURCES) && other->next == NUMBER && !finished(other) &&
            !take_number(batch, other, number))
            return false;
    }
    return take_number(batch, ask, number);
}

static bool stale(const struct slot *slot, const shim_ask *ask)
{
    return ask->error != OK || ask->round != slot->round;
}

static bool is_taken(const shim_batch *batch, const shim_ask *ask, int record)
{
    return batch->places[ask->first + record].shape >= 0;
}

static void send_request(shim_batch *batch, struct slot *slot, int64_t now);

/* Note the address of the source whose record `slot` holds; libchrony takes it from there too. */
static void note_source(struct slot *slot)
{
    int field = 0, count = chrony.get_record_number_fields(slot->link.session);
    while (field < count && (int)chrony.get_field_type(slot->link.session, field) != STRING)
        field++;
    copy_string(slot->link.address, chrony.get_field_string(slot->link.session, field));
    slot->link.joining = false;
}

/* Take the record that `slot` holds for its address, if it is asked for as well. */
static bool take_joined(shim_batch *batch, const struct slot *slot)
{
    shim_ask *ask = unfinished(batch, SHIM_JOINS);
    if (ask == NULL || slot->record >= ask->records || is_taken(batch, ask, slot->record))
        return true;
    if (!copy_record(batch, ask, slot->record, slot->link.session, ""))
        return false;
    ask->left--;
    return true;
}

/* Take the answer that `slot` holds. */
static void settle(shim_batch *batch, struct slot *slot, int64_t now)
{
    shim_ask *ask = &batch->asks[slot->ask];
    slot->state = IDLE;
    if (slot->link.joining && !stale(slot, ask)) {
        if (!take_joined(batch, slot)) {
            slot->state = HELD;
            return;
        }
        note_source(slot);
        send_request(batch, slot, now);
        return;
    }
    close_link(batch->client, &slot->earlier);
    if (stale(slot, ask))
        return;
    if (slot->record == NUMBER) {
        int number = chrony.get_report_number_records(slot->link.session);
        if (!share_number(batch, ask, number))
            slot->state = HELD;
    } else if (has(ask, SHIM_JOINS) && is_taken(batch, ask, slot->record)) {
        return;
    } else if (copy_record(batch, ask, slot->record, slot->link.session, slot->link.address)) {
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

static int request(const shim_batch *batch, const struct slot *slot)
{
    const shim_ask *ask = &batch->asks[slot->ask];
    /* libchrony keeps the pointer to the name for a second request: its own names last. */
    const char *name = chrony.get_report_name(ask->report);
    if (slot->record == NUMBER)
        return (int)chrony.request_report_number_records(slot->link.session, name);
    const char *report = slot->link.joining ? "sourcestats" : name;
    return (int)chrony.request_record(slot->link.session, report, slot->record);
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
    batch->client->error = error;
    batch->client->system = system;
}

/* Forget what is left in the session of a request that failed: libchrony would mix it into a
   later answer. Nothing is under way on the socket. */
static void renew_session(shim_client *client, struct slot *slot)
{
    chrony.deinit_session(slot->link.session);
    slot->link.session = NULL;
    slot->state = IDLE;
    if ((int)chrony.init_session(&slot->link.session, slot->link.fd) == OK)
        return;
    slot->link.session = NULL;
    close_slot(client, slot);
}

/* The same after an answer that is an error: all that is left is the report that was to follow on
   the source's address, and a request that cannot be made takes its place. */
static void forget_request(struct slot *slot)
{
    chrony.request_record(slot->link.session, "", 0);
    slot->state = IDLE;
}

static bool is_answer(int error) { return error >= UNAUTHORIZED && error <= INVALID_RESPONSE; }

/* libchrony or chronyd refused a request. */
static void refuse(shim_batch *batch, struct slot *slot, int error)
{
    shim_ask *ask = &batch->asks[slot->ask];
    close_link(batch->client, &slot->earlier);
    if (is_answer(error))
        forget_request(slot);
    else
        renew_session(batch->client, slot);
    if (stale(slot, ask))
        return;
    if (error == UNEXPECTED_STATUS && slot->record != NUMBER && !ask->single &&
        ask->round < MAX_ROUNDS)
        start_again(batch, ask); /* a source that was counted is gone */
    else
        fail(ask, error, 0);
}

/* Ask for the address first, where the record is to have one: both from the same session, which
   thereby are of the same source. */
static void join_again(const shim_batch *batch, struct slot *slot)
{
    slot->link.joining = has(&batch->asks[slot->ask], SHIM_JOINED) && slot->record != NUMBER;
}

/* Send the request that `slot` stands for, on a new socket if the one at hand is of no use. */
static void send_request(shim_batch *batch, struct slot *slot, int64_t now)
{
    for (;;) {
        if (slot->link.fd < 0) {
            int error = open_slot(batch->client, slot);
            if (error != 0) {
                miss(batch, slot, error, errno);
                return;
            }
            join_again(batch, slot);
        }
        int error = request(batch, slot);
        if (error == OK)
            break;
        if (error != SEND_FAILED) {
            refuse(batch, slot, error);
            return;
        }
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN || errno == ENOBUFS) {
            slot->state = BLOCKED;
            join_again(batch, slot);
        } else if (slot->link.fresh) {
            miss(batch, slot, SHIM_UNREACHABLE, errno);
        } else {
            start_over(batch);
        }
        return;
    }
    if (chrony.needs_response(slot->link.session)) {
        slot->state = WAITING;
        return;
    }
    /* Answered by libchrony: the number of records of a report that is no list, or the absence
       of a record that reference clocks lack. */
    if (slot->record == NUMBER)
        batch->asks[slot->ask].single = 1;
    settle(batch, slot, now);
}

/* chronyd is there, and has answered. */
static void note_answer(shim_batch *batch, struct slot *slot)
{
    batch->answers++;
    batch->client->error = batch->client->system = 0;
    slot->link.fresh = false;
}

/* Take in what has arrived for `slot`. */
static void receive(shim_batch *batch, struct slot *slot, int64_t now)
{
    errno = 0;
    int error = (int)chrony.process_response(slot->link.session);
    if (error == OK) {
        if (chrony.needs_response(slot->link.session))
            return; /* a datagram to ignore, or libchrony asked for more */
        note_answer(batch, slot);
        settle(batch, slot, now);
    } else if (error == RECV_FAILED && (errno == EAGAIN || errno == EINTR)) {
        return;
    } else if (error == SEND_FAILED && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS)) {
        renew_session(batch->client, slot); /* its second request was not sent: begin again */
        join_again(batch, slot);
        slot->state = BLOCKED;
    } else if (error != RECV_FAILED && error != SEND_FAILED) {
        note_answer(batch, slot);
        refuse(batch, slot, error);
    } else if (slot->link.fresh) {
        miss(batch, slot, SHIM_UNREACHABLE, errno);
    } else {
        start_over(batch); /* the error may be a late one, of an earlier call */
    }
}

/* Send the request that `slot` has just been given, or must send anew. */
static void begin(shim_batch *batch, struct slot *slot, int64_t now)
{
    join_again(batch, slot);
    slot->again = now + slot->interval;
    send_request(batch, slot, now);
}

static void swap_links(struct slot *slot)
{
    struct link other = slot->link;
    slot->link = slot->earlier;
    slot->earlier = other;
}

/* Whether chronyd has been away since `slot` was opened. A Unix socket tells it with an empty
   datagram, which chronyd ignores. */
static bool was_away(const shim_client *client, const struct slot *slot)
{
    if (slot->state == LATER)
        return true;
    return client->address[0] == '/' && slot->link.fd >= 0 &&
           send(slot->link.fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
           (errno == ECONNREFUSED || errno == ENOTCONN);
}

/* Ask again for what got no answer, on a new socket: the old one may be why. The first one stays
   open, since its answer may come yet. */
static void repeat(shim_batch *batch, struct slot *slot, int64_t now)
{
    if (stale(slot, &batch->asks[slot->ask])) {
        close_slot(batch->client, slot);
        return;
    }
    if (batch->answers > 0 && was_away(batch->client, slot)) {
        start_over(batch);
        return;
    }
    if (slot->state == WAITING && slot->earlier.fd < 0)
        swap_links(slot);
    else
        close_link(batch->client, &slot->link);
    if (slot->interval < LONGEST_PATIENCE * (int64_t)SECOND)
        slot->interval *= 2;
    begin(batch, slot, now);
}

/* ---- The batch ---- */

/* Whether the next request of `ask` is for another one to make: the number of sources is asked for
   once, and a record that comes with those of another report is not asked for by itself. */
static bool is_shared(const shim_batch *batch, const shim_ask *ask)
{
    if (ask->next != NUMBER)
        return has(ask, SHIM_JOINS) && unfinished(batch, SHIM_JOINED) != NULL;
    for (int i = 0; has(ask, SHIM_SOURCES) && i < batch->asked; i++) {
        const shim_ask *other = &batch->asks[i];
        if (has(other, SHIM_SOURCES) && other->next == NUMBER_ASKED && !finished(other))
            return true;
    }
    return false;
}

/* How many requests `ask` could hand out now. */
static int requests_of(const shim_batch *batch, const shim_ask *ask)
{
    if (finished(ask) || ask->next == NUMBER_ASKED || is_shared(batch, ask))
        return 0;
    return ask->next == NUMBER ? 1 : ask->records - ask->next;
}

/* How many requests are left to hand out. */
static int pending(const shim_batch *batch)
{
    int count = 0;
    for (int i = 0; i < batch->asked; i++)
        count += requests_of(batch, &batch->asks[i]);
    return count;
}

/* Give `slot` the next request: the numbers of records first. */
static void give(shim_batch *batch, struct slot *slot, int64_t now)
{
    shim_ask *ask = NULL;
    for (int i = 0; i < batch->asked && (ask == NULL || ask->next != NUMBER); i++) {
        shim_ask *other = &batch->asks[i];
        if ((ask == NULL || other->next == NUMBER) && requests_of(batch, other) > 0)
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
        } else if (slot->link.fd >= 0) {
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
    return closed;
}

/* In a forked child: leave the parent's sockets and sequence numbers to the parent. */
static void leave_parent(shim_batch *batch)
{
    shim_client *client = batch->client;
    if (client->generation == generation)
        return;
    start_over(batch);
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
        bool ready = slot->link.ready || slot->earlier.ready;
        if (!slot->link.ready && slot->earlier.ready)
            swap_links(slot);
        slot->link.ready = slot->earlier.ready = false;
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
    shim_client *client = batch->client;
    fail_all(batch, client->error != 0 ? client->error : SHIM_TIMEOUT, client->system);
}

/* Wait for an event on a socket, until `end` at most. False: a signal came. */
static bool wait_until(shim_client *client, int64_t end, int64_t now)
{
    struct pollfd events[2 * MAX_SESSIONS];
    struct link *links[2 * MAX_SESSIONS];
    nfds_t count = 0;
    for (int i = 0; i < client->sessions; i++) {
        struct slot *slot = &client->slots[i];
        if (in_flight(slot) && slot->again < end)
            end = slot->again;
        if (slot->state != WAITING && slot->state != BLOCKED)
            continue;
        events[count].fd = slot->link.fd;
        events[count].events = slot->state == WAITING ? POLLIN : POLLOUT;
        links[count++] = &slot->link;
        if (slot->state != WAITING || slot->earlier.fd < 0)
            continue;
        events[count].fd = slot->earlier.fd;
        events[count].events = POLLIN;
        links[count++] = &slot->earlier;
    }
    int64_t time = end > now ? end - now : 0;
    int found = poll(events, count, (int)((time + 999999) / 1000000));
    for (nfds_t i = 0; found > 0 && i < count; i++)
        links[i]->ready = events[i].revents != 0;
    return found >= 0;
}

static int run(shim_batch *batch, int64_t now)
{
    int64_t slice = now + SLICE;
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

int shim_run(shim_batch *batch) { return run(batch, clock_now()); }

int shim_start(shim_batch *batch, shim_ask *asks, int asked, int64_t timeout)
{
    batch->asks = asks;
    batch->asked = asked;
    for (int i = 0; i < batch->client->sessions; i++) {
        if (in_flight(&batch->client->slots[i]))
            shim_stop(batch); /* an exception kept the last batch from its end */
        batch->client->slots[i].link.fresh = false;
    }
    batch->client->error = batch->client->system = 0;
    batch->used = 0;
    batch->placed = 0;
    batch->answers = 0;
    batch->full = 0;
    int64_t now = clock_now();
    batch->deadline = timeout >= 0 ? now + timeout : INT64_MAX;
    batch->patience = timeout >= 0 && timeout < 4 * (int64_t)SECOND ? timeout / 4 : SECOND;
    if (batch->client->batches < MAX_SESSIONS)
        batch->client->batches++;
    for (int i = 0; i < batch->asked; i++) {
        restart(&batch->asks[i]);
        batch->asks[i].round = 0;
        batch->asks[i].room = 0;
        batch->asks[i].error = OK;
        batch->asks[i].system = 0;
        batch->asks[i].single = 0;
    }
    return run(batch, now);
}

void shim_stop(shim_batch *batch)
{
    take_lock();
    fail_all(batch, SHIM_TIMEOUT, 0);
    drop_lock();
}
