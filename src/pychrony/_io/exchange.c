/*
 * Sends, receives and repeats single requests, and handles a chronyd that is not there.
 */
#include "engine.h"

#include <errno.h>
#include <sys/socket.h>

enum { LEAST_PATIENCE = 200 * MILLISECOND }; /* as in TCP: a busy machine may need that long */
static const int64_t MOST_INTERVAL = 4 * (int64_t)SECOND;

/* ---- Slots ---- */

static bool is_stuck(enum state state) { return state == BLOCKED || state == LATER; }

void set_state(struct slot *slot, enum state state)
{
    slot->client->stuck += is_stuck(state) - is_stuck(slot->state);
    slot->client->busy += (state != IDLE) - (slot->state != IDLE);
    slot->state = state;
}

/* Whether this exchange asks for the address of the source. */
static bool is_addressed(const struct slot *slot)
{
    return has(&slot->client->asks[slot->item.ask], SHIM_ADDRESSED) &&
           (slot->item.kind == RECORD || slot->item.kind == ADDRESS);
}

/* libchrony ignores a late answer, by its sequence number. But if a session was about to ask by
   address, the next request in it would be affected. */
static bool leaves_traces(const struct slot *slot)
{
    return is_addressed(slot) && slot->item.kind == RECORD;
}

void release(struct slot *slot)
{
    slot->dirty |= slot->state == WAITING && leaves_traces(slot);
    set_state(slot, IDLE);
    watch_writing(slot, false); /* epoll would report a writable socket all the time */
}

static bool same_source(const struct item *one, const struct item *other)
{
    bool same_kind = one->kind == other->kind ||
                     (one->kind == RECORD && other->kind == ADDRESS); /* repeated from its start */
    return same_kind && one->ask == other->ask && one->record == other->record;
}

void release_twins(struct slot *slot)
{
    if (!slot->client->repeated)
        return;
    for (struct slot *twin = slot->client->slots; twin != NULL; twin = twin->next)
        if (twin != slot && twin->state != IDLE && same_source(&slot->item, &twin->item))
            release(twin);
}

/* Return a slot for one of `wanted` requests; NULL if they must wait. Opening a socket takes as
   long as a few requests: on the same machine, a client opens more sockets only for long lists, or
   after several batches. */
struct slot *vacant(shim_client *client, int wanted, bool far)
{
    for (struct slot *slot = client->slots; slot != NULL; slot = slot->next)
        if (slot->link.fd >= 0 && slot->state == IDLE)
            return slot;
    if (client->busy == 0)
        return empty_slot(client);
    bool few = client->busy < client->kept && (client->busy < client->batches || client->busy < wanted / 8);
    if (client->full || !(far || few))
        return NULL;
    struct slot *slot = empty_slot(client);
    if (slot != NULL && open_slot(slot) == OK)
        return slot;
    client->full = true; /* the open ones must do */
    return NULL;
}

int64_t next_due(const shim_client *client)
{
    int64_t due = client->deadline;
    for (const struct slot *slot = client->slots; slot != NULL; slot = slot->next)
        if (slot->state != IDLE && slot->again < due)
            due = slot->again;
    return due;
}

void postpone(shim_client *client, int64_t pause)
{
    if (client->deadline != NEVER)
        client->deadline += pause;
    for (struct slot *slot = client->slots; slot != NULL; slot = slot->next)
        if (slot->state != IDLE && slot->again != NEVER)
            slot->again += pause;
    client->due = next_due(client);
}

/* ---- Round trips ---- */

/* As RFC 6298 has it. */
static void measure(shim_client *client, int64_t time)
{
    int64_t *round_trip = &client->batch.round_trip;
    if (client->best == 0 || time < client->best)
        client->best = time > 0 ? time : 1;
    if (*round_trip == 0) {
        *round_trip = time > 0 ? time : 1;
        client->variation = time / 2;
        return;
    }
    int64_t off = time > *round_trip ? time - *round_trip : *round_trip - time;
    client->variation += (off - client->variation) / 4;
    *round_trip += (time - *round_trip) / 8;
}

/* How long to wait before a request is repeated for the first time. */
static int64_t first_interval(const shim_client *client)
{
    int64_t least = client->patience < LEAST_PATIENCE ? client->patience : LEAST_PATIENCE;
    int64_t interval = client->batch.round_trip + 4 * client->variation;
    if (client->batch.round_trip == 0)
        return client->patience;
    return interval < least ? least : interval < MOST_INTERVAL ? interval : MOST_INTERVAL;
}

/* ---- chronyd is not there ---- */

/* Close all sockets and discard the lists: chronyd was restarted, and its sources may differ. */
static void start_over(shim_client *client)
{
    for (struct slot *slot = client->slots; slot != NULL; slot = slot->next)
        close_slot(slot);
    begin_again(client);
}

/* chronyd is not there. A batch that has reached it before waits for it to come back; any other
   batch fails at once. */
static void miss(struct slot *slot, int error, int system)
{
    shim_client *client = slot->client;
    close_slot(slot);
    if (!client->reached && slot->tries == 1) {
        fail_all(client, error, system);
        return;
    }
    set_state(slot, LATER);
    client->error = error;
    client->system = system;
}

/* Whether chronyd was stopped since the slot was opened. On a Unix socket, sending an empty
   datagram shows that; chronyd ignores it. */
static bool was_away(const struct slot *slot)
{
    if (slot->state == LATER)
        return true;
    return slot->client->ordered && slot->link.fd >= 0 &&
           send(slot->link.fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
           (errno == ECONNREFUSED || errno == ENOTCONN);
}

void note_absence(shim_client *client)
{
    if (client->error != OK)
        return; /* it is known already */
    for (struct slot *slot = client->slots; slot != NULL; slot = slot->next) {
        if (slot->state != WAITING || !was_away(slot))
            continue;
        close_slot(slot);
        client->error = open_slot(slot);
        client->system = errno;
        return; /* if that succeeded, chronyd has just come back, too late for an answer */
    }
}

/* ---- Requests ---- */

static int request(const struct slot *slot)
{
    const shim_ask *ask = &slot->client->asks[slot->item.ask];
    chrony_session *session = slot->link.session;
    /* libchrony may keep the pointer to a name: its own names stay valid. */
    const char *name = chrony.get_report_name(ask->report);
    if (slot->item.kind == NUMBER)
        return (int)chrony.request_report_number_records(session, name);
    bool by_address = has(ask, SHIM_ADDRESSED);
    if (by_address && slot->item.kind != RECORD)
        name = "sourcestats";
    else if (by_address)
        take_text(); /* libchrony formats the address in the common buffer */
    int error = (int)chrony.request_record(session, name, slot->item.record);
    if (by_address && slot->item.kind == RECORD)
        drop_text();
    return error;
}

/* Let an exchange that was cut short begin with the address again, since its session does not hold
   the address any more. */
static void rewind_item(struct slot *slot)
{
    if (is_addressed(slot))
        slot->item.kind = ADDRESS;
}

/* Make sure that the slot has a socket and a clean session. False: that is not possible. */
static bool be_ready(struct slot *slot)
{
    int error = OK;
    if (slot->link.fd >= 0 && slot->dirty) {
        rewind_item(slot);
        error = renew_session(slot);
    }
    if (slot->link.fd < 0) {
        rewind_item(slot);
        error = open_slot(slot);
    }
    if (error != OK)
        miss(slot, error, errno);
    return error == OK;
}

/* A request could not be sent. */
static void fail_to_send(struct slot *slot)
{
    if (errno == EAGAIN || errno == ENOBUFS) {
        slot->dirty |= leaves_traces(slot);
        set_state(slot, BLOCKED);
        watch_writing(slot, true);
    } else if (slot->fresh) {
        miss(slot, SHIM_UNREACHABLE, errno);
    } else {
        start_over(slot->client);
    }
}

void send_request(struct slot *slot, int64_t now)
{
    int error;
    if (!be_ready(slot))
        return;
    slot->sent = now;
    slot->stamp = ++slot->client->stamp;
    do
        error = request(slot);
    while (error == SEND_FAILED && errno == EINTR);
    if (error == SEND_FAILED) {
        fail_to_send(slot);
    } else if (error != OK) {
        slot->dirty = true;
        take_refusal(slot, error);
    } else if (!chrony.needs_response(slot->link.session)) {
        /* libchrony itself answered: with the number of records of a report that is not a list, or
           because reference clocks have no such record. */
        take_answer(slot, now);
    } else {
        set_state(slot, WAITING);
        watch_writing(slot, false);
        slot->client->reached |= slot->client->ordered; /* sending succeeds only if it is there */
        if (slot->item.kind == NUMBER && !slot->client->progress[slot->item.ask].list)
            take_list(slot);
    }
}

void begin(struct slot *slot, int64_t now)
{
    slot->tries = 1;
    slot->interval = first_interval(slot->client);
    slot->again = now + slot->interval;
    send_request(slot, now);
}

/* ---- Answers ---- */

static bool is_answer(int error) { return error >= UNAUTHORIZED && error <= INVALID_RESPONSE; }

/* chronyd has answered. */
static void note_answer(struct slot *slot, int64_t now)
{
    shim_client *client = slot->client;
    client->reached = true;
    client->batch.answered = 1;
    client->error = client->system = 0;
    slot->fresh = false;
    measure(client, now - slot->sent);
}

/* Take in what has arrived. */
static void receive(struct slot *slot, int64_t now)
{
    errno = 0;
    int error = (int)chrony.process_response(slot->link.session);
    if (error == OK) {
        if (chrony.needs_response(slot->link.session))
            return; /* a datagram to ignore */
        note_answer(slot, now);
        take_answer(slot, now);
    } else if (error == RECV_FAILED && (errno == EAGAIN || errno == EINTR)) {
        return;
    } else if (is_answer(error)) {
        note_answer(slot, now);
        slot->dirty |= leaves_traces(slot);
        take_refusal(slot, error);
    } else if (error != RECV_FAILED && error != SEND_FAILED) {
        slot->dirty = true;
        take_refusal(slot, error);
    } else if (slot->fresh) {
        miss(slot, SHIM_UNREACHABLE, errno);
    } else {
        start_over(slot->client); /* the error may be due to an earlier call */
    }
}

/* Discard late answers, which epoll would otherwise report for ever. */
static void drain(const struct slot *slot)
{
    char byte;
    for (int i = 0; i < KEPT; i++)
        if (recv(slot->link.fd, &byte, 1, MSG_DONTWAIT | MSG_TRUNC) < 0 && errno == EAGAIN)
            return;
}

void receive_all(shim_client *client, int64_t now)
{
    for (struct slot *slot = client->slots; slot != NULL; slot = slot->next) {
        if (!slot->ready)
            continue;
        slot->ready = false;
        if (slot->link.fd < 0)
            continue;
        if (slot->state == BLOCKED)
            send_request(slot, now);
        else if (slot->state == WAITING)
            receive(slot, now);
        else
            drain(slot);
    }
}

void look_again(shim_client *client)
{
    for (struct slot *slot = client->slots; slot != NULL; slot = slot->next)
        if (slot->state == WAITING)
            slot->ready = true;
}

/* ---- Repetitions ---- */

/* Return the slot in which to repeat a request that waits. At first, that is a new socket. Later, a
   slot in between is closed and reused, so that the first and the last can still be answered. If no
   new socket can be opened, the repetition replaces the request in its own session. */
static struct slot *place_to_repeat(struct slot *slot)
{
    shim_client *client = slot->client;
    struct slot *later = NULL;
    int twins = 0;
    for (struct slot *twin = client->slots; twin != NULL; twin = twin->next) {
        if (twin == slot || twin->state == IDLE || !same_source(&twin->item, &slot->item))
            continue;
        twins++;
        if (later == NULL || twin->sent > later->sent)
            later = twin;
    }
    if (twins >= 2) {
        close_slot(later);
        return later;
    }
    struct slot *twin = empty_slot(client);
    if (twin == NULL)
        return slot;
    if (open_slot(twin) == OK)
        return twin;
    if (errno != EMFILE && errno != ENFILE)
        close_slot(slot); /* chronyd is not there: the next attempt reports it */
    return slot;
}

/* Repeat a request that was not answered. */
static void repeat(struct slot *slot, int64_t now)
{
    shim_client *client = slot->client;
    if (client->batch.answered && was_away(slot)) {
        start_over(client);
        return;
    }
    int64_t interval = slot->interval + slot->interval / 4; /* several in a row may get lost */
    int tries = slot->tries + 1;
    struct item item = slot->item;
    struct slot *other = slot;
    slot->again = NEVER;
    if (slot->state == WAITING)
        other = place_to_repeat(slot);
    else
        close_slot(slot);
    client->repeated = true;
    other->item = item;
    other->tries = tries;
    other->interval = interval < MOST_INTERVAL ? interval : MOST_INTERVAL;
    other->again = now + other->interval;
    rewind_item(other);
    send_request(other, now);
}

void repeat_overdue(shim_client *client, int64_t now)
{
    for (struct slot *slot = client->slots; slot != NULL; slot = slot->next)
        if (slot->state != IDLE && now >= slot->again)
            repeat(slot, now);
}
