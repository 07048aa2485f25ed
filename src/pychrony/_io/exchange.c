#include "exchange.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    LEAST_PATIENCE = 200 * MILLISECOND, /* as in TCP: a busy machine may need that long */
    MOST_PATIENCE = 250 * MILLISECOND,  /* before a first repetition, if no round trip is known */
    FAR = 5 * MILLISECOND,     /* from this round trip on, a socket for each request is worth it */
    CROWDED = 10 * MILLISECOND /* wait this long after ENOBUFS before a request is sent again */
};
static const int64_t MOST_INTERVAL = 4 * (int64_t)SECOND;
/* A Unix socket loses nothing, but chronyd drops an answer if the answers that other clients have not
   read fill its send buffer. As a slow answer to a repeated request is ignored, this is patient. */
static const int64_t UNREAD = 2 * (int64_t)SECOND;

/* ---- Slots ---- */

static bool is_stuck(enum state state) { return state == BLOCKED || state == LATER; }

static void set_state(struct slot *slot, enum state state)
{
    slot->peer->stuck += is_stuck(state) - is_stuck(slot->state);
    slot->peer->busy += (state != IDLE) - (slot->state != IDLE);
    slot->state = state;
}

void release(struct slot *slot)
{
    set_state(slot, IDLE);
    /* Otherwise, epoll would report all the time that the socket is writable. */
    if (slot->socket.fd >= 0)
        watch_writing(slot->peer->hub, &slot->socket, false);
}

static bool same_source(const struct item *one, const struct item *other)
{
    bool same_kind = one->kind == other->kind ||
                     (one->kind == RECORD && other->kind == ADDRESS); /* repeated from its start */
    return same_kind && one->ask == other->ask && one->record == other->record;
}

/* A request was answered or refused: end it in all slots that have it. */
static enum event conclude(struct slot *slot, enum event event)
{
    release(slot);
    for (struct slot *twin = slot->peer->slots; twin != NULL; twin = twin->next)
        if (twin != slot && twin->state != IDLE && same_source(&slot->item, &twin->item))
            release(twin);
    return event;
}

/* ---- Their sockets ---- */

static int open_slot(struct slot *slot)
{
    struct peer *peer = slot->peer;
    int error = open_socket(peer->hub, peer->address, peer->open > 0, peer->owner, &slot->socket);
    if (error != OK)
        return error;
    peer->open++;
    slot->fresh = true;
    return OK;
}

static void close_slot(struct slot *slot)
{
    set_state(slot, IDLE);
    if (slot->socket.fd < 0)
        return;
    close_socket(slot->peer->hub, &slot->socket);
    slot->peer->open--;
}

/* Return a slot without a socket, a new one if necessary; NULL: no memory. */
static struct slot *empty_slot(struct peer *peer)
{
    for (struct slot *slot = peer->slots; slot != NULL; slot = slot->next)
        if (slot->socket.fd < 0 && slot->state == IDLE)
            return slot;
    struct slot *slot = calloc(1, sizeof(*slot));
    if (slot == NULL)
        return NULL;
    slot->socket.fd = -1;
    slot->peer = peer;
    slot->next = peer->slots;
    peer->slots = slot;
    return slot;
}

/* A distant chronyd gets a socket for each request that can be in flight, so that a list takes few
   round trips. */
static bool is_far(const struct peer *peer) { return !peer->ordered && peer->best >= FAR; }

/* Opening a socket takes as long as a few requests. So on the same machine, further sockets are
   opened only for long lists or after several batches, and only while there are plenty. */
static bool wants_further(const struct peer *peer, int wanted)
{
    if (is_far(peer))
        return true;
    return peer->busy < peer->kept && budget_to_spare() > 0 &&
           (peer->busy < peer->batches || peer->busy < wanted / 8);
}

struct slot *vacant(struct peer *peer, int wanted)
{
    for (struct slot *slot = peer->slots; slot != NULL; slot = slot->next)
        if (slot->socket.fd >= 0 && slot->state == IDLE)
            return slot;
    if (peer->busy == 0)
        return empty_slot(peer);
    if (peer->full || !wants_further(peer, wanted))
        return NULL;
    struct slot *slot = empty_slot(peer);
    int error = slot != NULL ? open_slot(slot) : NO_MEMORY;
    if (error == OK)
        return slot;
    peer->full = error != NO_BUDGET; /* others return their sockets: try again at the next step */
    return NULL;
}

/* Close idle sockets until no more than this number are open. */
static void close_idle(struct peer *peer, int most)
{
    for (struct slot *slot = peer->slots; slot != NULL && peer->open > most; slot = slot->next)
        if (slot->socket.fd >= 0 && slot->state == IDLE)
            close_slot(slot);
}

void return_idle(struct peer *peer)
{
    /* Nearby clients have few sockets, and use them again soon. */
    int64_t excess = is_far(peer) ? -budget_to_spare() : 0;
    if (excess > 0)
        close_idle(peer, excess < peer->open ? (int)(peer->open - excess) : 1);
}

/* ---- Peers ---- */

int open_peer(struct peer *peer, const char *address, int kept)
{
    peer->kept = kept < KEPT ? kept : KEPT;
    struct slot *slot = empty_slot(peer);
    if (slot == NULL)
        return NO_MEMORY;
    snprintf(peer->address, sizeof(peer->address), "%s", address);
    peer->ordered = address[0] == '/';
    return open_slot(slot);
}

void close_peer(struct peer *peer)
{
    for (struct slot *slot = peer->slots; slot != NULL; slot = slot->next)
        close_slot(slot);
}

void free_peer(struct peer *peer)
{
    for (struct slot *slot; (slot = peer->slots) != NULL;) {
        peer->slots = slot->next;
        close_slot(slot);
        free(slot);
    }
}

void start_peer(struct peer *peer, int64_t timeout)
{
    peer->patience = timeout >= 0 && timeout / 4 < MOST_PATIENCE ? timeout / 4 : MOST_PATIENCE;
    peer->stamp = 0;
    peer->error = peer->system = 0;
    peer->reached = peer->answered = peer->full = false;
    peer->batches += peer->batches < KEPT;
    for (struct slot *slot = peer->slots; slot != NULL; slot = slot->next)
        slot->fresh = false;
}

void rest_peer(struct peer *peer)
{
    for (struct slot *slot = peer->slots; slot != NULL; slot = slot->next)
        release(slot);
    close_idle(peer, peer->kept);
    return_idle(peer);
}

int64_t next_repetition(const struct peer *peer)
{
    int64_t due = NEVER;
    for (const struct slot *slot = peer->slots; slot != NULL; slot = slot->next)
        if (slot->state != IDLE && slot->again < due)
            due = slot->again;
    return due;
}

/* ---- Round trips ---- */

/* Update the estimates of the round trip as in RFC 6298. */
static void measure(struct peer *peer, int64_t time)
{
    if (peer->best == 0 || time < peer->best)
        peer->best = time > 0 ? time : 1;
    if (peer->round_trip == 0) {
        peer->round_trip = time > 0 ? time : 1;
        peer->variation = time / 2;
        return;
    }
    int64_t off = time > peer->round_trip ? time - peer->round_trip : peer->round_trip - time;
    peer->variation += (off - peer->variation) / 4;
    peer->round_trip += (time - peer->round_trip) / 8;
}

/* How long to wait before a request is repeated for the first time; on a Unix socket, before the
   first look whether chronyd is still there. */
static int64_t first_interval(const struct peer *peer)
{
    int64_t least = peer->patience < LEAST_PATIENCE ? peer->patience : LEAST_PATIENCE;
    int64_t interval = peer->round_trip + 4 * peer->variation;
    if (peer->round_trip == 0 || peer->ordered)
        return peer->patience;
    return interval < least ? least : interval < MOST_INTERVAL ? interval : MOST_INTERVAL;
}

/* ---- chronyd is not there ---- */

static enum event start_over(struct peer *peer)
{
    close_peer(peer);
    return RESTARTED;
}

/* chronyd is not there. A batch that has reached it before waits for it to come back; any other
   batch fails at once. So does a batch without memory: waiting would not help. */
static enum event miss(struct slot *slot, int error, int system)
{
    struct peer *peer = slot->peer;
    close_slot(slot);
    peer->error = error;
    peer->system = system;
    if (error == NO_MEMORY || (!peer->reached && slot->tries == 1))
        return ABSENT;
    set_state(slot, LATER);
    return NOTHING;
}

/* ---- Requests ---- */

static int request(const struct slot *slot)
{
    const struct item *item = &slot->item;
    chrony_session *session = slot->socket.session;
    /* libchrony may keep the pointer to a name: its own names stay valid. */
    const char *name = chrony.get_report_name(item->report);
    if (item->kind == NUMBER) {
        /* libchrony would continue a request by address that has not ended. A request for a record
           ends it first, even one that libchrony refuses because no report has this name. */
        chrony.request_record(session, "", 0);
        return (int)chrony.request_report_number_records(session, name);
    }
    if (!item->addressed)
        return (int)chrony.request_record(session, name, item->record);
    if (item->kind != RECORD)
        return (int)chrony.request_record(session, "sourcestats", item->record);
    lock_library(); /* libchrony formats the address in the common buffer */
    int error = (int)chrony.request_record(session, name, item->record);
    unlock_library();
    return error;
}

/* A request by address follows that for the address in the same session. If it has to be sent again,
   so has the other. */
static void rewind_item(struct slot *slot)
{
    if (slot->item.addressed && slot->item.kind == RECORD)
        slot->item.kind = ADDRESS;
}

/* A request could not be sent. */
static enum event fail_to_send(struct slot *slot, int64_t now)
{
    if (errno == EAGAIN || errno == ENOBUFS) {
        rewind_item(slot);
        set_state(slot, BLOCKED);
        if (errno == EAGAIN)
            watch_writing(slot->peer->hub, &slot->socket, true);
        else /* the socket itself is always writable, so epoll cannot tell when to send again */
            slot->again = now + CROWDED;
        return NOTHING;
    }
    if (slot->fresh)
        return miss(slot, SHIM_UNREACHABLE, errno);
    return start_over(slot->peer);
}

static enum event refuse(struct slot *slot, int error)
{
    slot->error = error;
    return conclude(slot, REFUSED);
}

enum event send_request(struct slot *slot, int64_t now)
{
    int error = OK;
    if (slot->socket.fd < 0) {
        rewind_item(slot);
        error = open_slot(slot);
    }
    if (error != OK)
        return miss(slot, error, errno);
    slot->sent = now;
    slot->stamp = ++slot->peer->stamp;
    do
        error = request(slot);
    while (error == SEND_FAILED && errno == EINTR);
    if (error == SEND_FAILED)
        return fail_to_send(slot, now);
    if (error != OK)
        return refuse(slot, error);
    /* libchrony itself may have answered: with the number of records of a report that is not a
       list, or because reference clocks have no such record. */
    if (!chrony.needs_response(slot->socket.session))
        return conclude(slot, ANSWERED);
    set_state(slot, WAITING);
    watch_writing(slot->peer->hub, &slot->socket, false);
    slot->peer->reached |= slot->peer->ordered; /* such a send fails without a chronyd */
    return NOTHING;
}

enum event begin(struct slot *slot, const struct item *item, int64_t now)
{
    slot->item = *item;
    slot->tries = 1;
    slot->interval = first_interval(slot->peer);
    slot->again = now + slot->interval;
    return send_request(slot, now);
}

/* ---- Answers ---- */

static bool is_answer(int error) { return error >= UNAUTHORIZED && error <= INVALID_RESPONSE; }

/* chronyd has answered. */
static void note_answer(struct slot *slot, int64_t now)
{
    struct peer *peer = slot->peer;
    peer->reached = peer->answered = true;
    peer->error = peer->system = 0;
    slot->fresh = false;
    measure(peer, now - slot->sent);
}

static enum event receive(struct slot *slot, int64_t now)
{
    errno = 0;
    int error = (int)chrony.process_response(slot->socket.session);
    if (error == OK) {
        if (chrony.needs_response(slot->socket.session))
            return NOTHING; /* a datagram to ignore */
        note_answer(slot, now);
        return conclude(slot, ANSWERED);
    }
    if (is_answer(error))
        note_answer(slot, now);
    if (error == RECV_FAILED && (errno == EAGAIN || errno == EINTR))
        return NOTHING;
    if (error != RECV_FAILED && error != SEND_FAILED)
        return refuse(slot, error);
    if (slot->fresh)
        return miss(slot, SHIM_UNREACHABLE, errno);
    return start_over(slot->peer); /* the error may be due to an earlier call */
}

enum event collect(struct slot *slot, int64_t now)
{
    if (slot->socket.fd < 0 || !slot->socket.ready)
        return NOTHING;
    slot->socket.ready = false;
    if (slot->state == BLOCKED)
        return send_request(slot, now);
    if (slot->state == WAITING)
        return receive(slot, now);
    drain_socket(&slot->socket);
    return NOTHING;
}

void look_again(struct peer *peer)
{
    for (struct slot *slot = peer->slots; slot != NULL; slot = slot->next)
        if (slot->state == WAITING)
            slot->socket.ready = true;
}

/* ---- Repetitions ---- */

/* Set when to look at the request again. */
static void wait_longer(struct slot *slot, int64_t now)
{
    slot->interval += slot->interval / 4; /* grow slowly, since several in a row may get lost */
    if (slot->interval > MOST_INTERVAL)
        slot->interval = MOST_INTERVAL;
    slot->again = now + slot->interval;
}

/* Send a request again, in the session of the slot, which from now on ignores an answer to an earlier
   one. */
static enum event send_again(struct slot *slot, int64_t now)
{
    wait_longer(slot, now);
    slot->tries++;
    rewind_item(slot);
    return send_request(slot, now);
}

/* Repeat a request over UDP. The first repetition opens a second socket, so that both can be
   answered: otherwise, late answers would be ignored, and cost a list more round trips. Where a
   round trip takes longer than a quarter of the timeout, no answer might ever be in time. Later
   repetitions, and the first if no socket can be opened, replace the request in its session. So no
   working socket is ever closed. */
static enum event repeat(struct slot **slot, int64_t now)
{
    struct slot *old = *slot, *twin = old->tries == 1 ? empty_slot(old->peer) : NULL;
    if (twin == NULL || open_slot(twin) != OK)
        return send_again(old, now);
    twin->item = old->item;
    twin->tries = old->tries;
    twin->interval = old->interval;
    old->again = NEVER;
    *slot = twin;
    return send_again(twin, now);
}

enum event repeat_overdue(struct slot **overdue, int64_t now)
{
    struct slot *slot = *overdue;
    struct peer *peer = slot->peer;
    if (slot->state == IDLE || now < slot->again)
        return NOTHING;
    if (slot->state == WAITING && !peer->ordered)
        return repeat(overdue, now);
    if (slot->state == WAITING && is_cut_off(&slot->socket))
        return start_over(peer);
    if (slot->state == WAITING && now - slot->sent >= slot->tries * UNREAD)
        return send_again(slot, now);
    wait_longer(slot, now);
    if (slot->state == WAITING)
        return NOTHING;
    if (slot->state == BLOCKED)
        return send_request(slot, now);
    slot->tries++;
    return peer->answered ? start_over(peer) : send_request(slot, now);
}
