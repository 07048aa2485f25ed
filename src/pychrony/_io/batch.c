/*
 * How a batch runs.
 *
 * step_batch() moves a batch on as far as possible without waiting: it takes in the answers that
 * have arrived, repeats overdue requests, gives the next requests to free slots, and computes when
 * it is due again. The loop (loop.c) calls it when a socket of the client is readable, or when the
 * client is due. Blocking calls, event loops and thousands of daemons at once all use this one
 * function.
 *
 * Reports with a single record can be asked for at any time. Lists cannot: rounds.h tells in which
 * order their requests are sent, and why.
 *
 * libchrony asks for the authentication and the NTP data of a source by its address, which it takes
 * from the sourcestats record that its session holds. So the round asks for sourcestats by index,
 * and the request by address follows in the same slot.
 *
 * An overdue request (RFC 6298) is repeated on another socket, since the old socket may be the
 * reason; the first request stays in flight, since its answer may only be slow. A Unix socket loses
 * no request, but does not survive a restart of chronyd: all sockets are then replaced, and the
 * lists begin again. The number of sockets depends on how long a round trip takes compared with
 * opening a socket: a few on the same machine, and one for each request that can be in flight to a
 * distant chronyd.
 */
#include "batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_ROUNDS = 1000, /* without a deadline, give up after so many */
    MANY_ROUNDS = 3     /* after so many, report "the sources kept changing" instead of a timeout */
};

static bool has(const shim_ask *ask, int flag) { return (ask->flags & flag) != 0; }

/* ---- Asks ---- */

static bool is_open(const struct batch *batch, int ask) { return !batch->progress[ask].done; }

static bool is_open_list(const struct batch *batch, int ask)
{
    return batch->progress[ask].list && is_open(batch, ask);
}

/* The first open list with this flag (0: any); -1 if there is none. */
static int open_list(const struct batch *batch, int flag)
{
    for (int i = 0; i < batch->asked; i++)
        if (is_open_list(batch, i) && (flag == 0 || has(&batch->seen.asks[i], flag)))
            return i;
    return -1;
}

/* Whether a request is part of a round: for a record by its index, or for their number. */
static bool by_index(const struct batch *batch, const struct item *item)
{
    return batch->progress[item->ask].list && (item->kind != RECORD || !item->addressed);
}

/* The number of requests of the round that are not answered yet. */
static int outstanding(const struct batch *batch)
{
    int count = 0;
    for (const struct slot *slot = batch->peer.slots; slot != NULL; slot = slot->next)
        count += slot->state != IDLE && by_index(batch, &slot->item);
    return count;
}

static void conclude(struct batch *batch, int ask)
{
    batch->progress[ask].done = true;
    batch->unfinished--;
}

static void restart_round(struct batch *batch);

/* End an ask with an error. */
static void fail(struct batch *batch, int ask, int error, int system)
{
    if (!is_open(batch, ask))
        return;
    conclude(batch, ask);
    batch->seen.asks[ask].error = error;
    batch->seen.asks[ask].system = system;
    if (batch->guard == ask && batch->round.opening != DONE)
        restart_round(batch); /* with another guard */
}

void fail_batch(struct batch *batch, int error, int system)
{
    batch->guard = -1;
    for (int i = 0; i < batch->asked; i++)
        fail(batch, i, error, system);
}

static void fail_lists(struct batch *batch, int error, int records)
{
    batch->guard = -1;
    for (int i; (i = open_list(batch, 0)) >= 0;) {
        batch->seen.asks[i].records = records;
        fail(batch, i, error, 0);
    }
}

/* ---- Places ---- */

/* Where the place of a record is: the last record comes first. */
static int position(const struct batch *batch, int ask, int record)
{
    return record == batch->seen.asks[ask].records - 1 ? 0 : record + 1;
}

static bool is_taken(const struct batch *batch, int ask, int record)
{
    int at = position(batch, ask, record);
    return at < batch->progress[ask].places && batch->seen.asks[ask].places[at].shape >= 0;
}

/* Return the place of a record that has arrived; NULL without memory. The memory grows with what
   has arrived, not with the number of records that chronyd claims to have. */
static shim_place *take_place(struct batch *batch, int ask, int record)
{
    struct progress *progress = &batch->progress[ask];
    shim_ask *told = &batch->seen.asks[ask];
    int at = position(batch, ask, record);
    if (at >= progress->room) {
        int room = 2 * at + 8;
        shim_place *places = realloc(told->places, sizeof(*places) * (size_t)room);
        if (places == NULL)
            return NULL;
        told->places = places;
        progress->room = room;
        batch->store.moved++;
    }
    for (; progress->places <= at; progress->places++)
        told->places[progress->places] = (shim_place){.shape = -1};
    return &told->places[at];
}

/* Forget what has been read of a list, which now has `number` records. */
static void clear_list(struct batch *batch, int ask, int number)
{
    struct progress *progress = &batch->progress[ask];
    shim_ask *told = &batch->seen.asks[ask];
    for (int i = 0; i < progress->places; i++)
        told->places[i].shape = -1;
    told->records = progress->left = number;
    progress->next = 0;
}

/* ---- Rounds ---- */

/* Take the number of records of all lists. */
static void take_number_of_all(struct batch *batch, int number)
{
    if (number < 0 || number > MAX_RECORDS) {
        fail_lists(batch, SHIM_ABSURD, number);
        return;
    }
    batch->round.number = number;
    for (int i = 0; i < batch->asked; i++)
        if (is_open_list(batch, i))
            clear_list(batch, i, number);
}

static void restart_round(struct batch *batch)
{
    for (struct slot *slot = batch->peer.slots; slot != NULL; slot = slot->next)
        if (slot->state != IDLE && batch->progress[slot->item.ask].list)
            release(slot);
    begin_round(&batch->round);
    batch->guard = open_list(batch, 0);
    if (batch->guard >= 0 && batch->known > 0)
        take_number_of_all(batch, batch->known);
}

/* The sources have changed, or may have: read the lists again. */
static void read_again(struct batch *batch)
{
    if (++batch->round.rounds < MOST_ROUNDS || batch->deadline != NEVER)
        restart_round(batch);
    else
        fail_lists(batch, SHIM_CHANGING, batch->round.rounds);
}

/* A source that was counted does not exist. */
static void miss_source(struct batch *batch, int record)
{
    batch->known = -1;
    if (note_gone(&batch->round, record))
        fail_lists(batch, UNEXPECTED_STATUS, 0);
    else
        read_again(batch);
}

static void conclude_lists(struct batch *batch)
{
    batch->known = batch->round.number;
    for (int i; (i = open_list(batch, 0)) >= 0;)
        conclude(batch, i);
}

/* Whether all records of all lists have arrived, and everything that proves them consistent. */
static bool is_round_complete(const struct batch *batch)
{
    const struct round *round = &batch->round;
    if (round->counting != DONE || (round->number > 0 && round->closing != DONE))
        return false;
    for (int i = 0; i < batch->asked; i++)
        if (is_open_list(batch, i) && batch->progress[i].left > 0)
            return false;
    return outstanding(batch) == 0;
}

/* Whether all lists are about the same sources, or are again what they were in the round before. */
static bool are_lists_alike(struct batch *batch)
{
    struct round *round = &batch->round;
    bool differ = false;
    uint64_t seen = 0xcbf29ce484222325; /* FNV-1a, of all addresses */
    for (int record = 0; record < round->number; record++) {
        const char *first = NULL;
        for (int i = 0; i < batch->asked; i++) {
            if (!is_open_list(batch, i))
                continue;
            const shim_place *place = &batch->seen.asks[i].places[position(batch, i, record)];
            const char *address = find_address(&batch->store, place);
            first = first != NULL ? first : address;
            differ |= strcmp(address, first) != 0;
            for (const char *byte = address; *byte != 0; byte++)
                seen = (seen ^ (unsigned char)*byte) * 0x100000001b3;
        }
    }
    bool stays = round->compared && seen == round->seen;
    round->compared = true;
    round->seen = seen;
    return stays || !differ;
}

/* End the round if it is complete. True: there is more to ask for. */
static bool check_round(struct batch *batch)
{
    struct round *round = &batch->round;
    if (open_list(batch, 0) < 0 || !is_round_complete(batch))
        return false;
    enum verdict verdict = judge(round);
    if (verdict == CLOSE_AGAIN)
        round->closing = TO_ASK;
    else if (verdict == SOUND && are_lists_alike(batch))
        conclude_lists(batch);
    else
        read_again(batch);
    return true;
}

/* ---- Requests ---- */

static struct item make_item(const struct batch *batch, enum kind kind, int ask, int record)
{
    const shim_ask *told = &batch->seen.asks[ask];
    bool addressed = has(told, SHIM_ADDRESSED);
    if (kind == RECORD && addressed && batch->progress[ask].list)
        kind = ADDRESS; /* the record follows */
    return (struct item){kind, ask, record, told->report, addressed, false};
}

/* Whether requests that must follow others may be sent: once those are answered, or once they are
   sent if chronyd serves requests in order. */
static bool may_follow(const struct batch *batch, bool answered)
{
    return answered || (batch->peer.ordered && batch->peer.stuck == 0);
}

/* The next request between opening and closing. */
static bool next_of_rest(struct batch *batch, struct item *item)
{
    int number = batch->round.number;
    bool addressed = open_list(batch, SHIM_ADDRESSED) >= 0;
    for (int i = 0; i < batch->asked; i++) {
        int *next = &batch->progress[i].next;
        /* Its records arrive anyway, as the addresses for the other lists. */
        if (!is_open_list(batch, i) || (addressed && has(&batch->seen.asks[i], SHIM_ADDRESSES)))
            continue;
        while (*next < number &&
               (is_taken(batch, i, *next) || (i == batch->guard && *next == number - 1)))
            (*next)++;
        *item = make_item(batch, RECORD, i, *next);
        if (*next < number)
            return true;
    }
    return false;
}

/* The next request of the round. */
static bool next_of_round(struct batch *batch, struct item *item)
{
    const struct round *round = &batch->round;
    int guard = batch->guard;
    if (guard < 0)
        return false;
    *item = make_item(batch, NUMBER, guard, 0);
    if (round->number < 0)
        return round->counting == TO_ASK;
    if (round->number == 0)
        return false;
    if (round->opening == TO_ASK) {
        *item = make_item(batch, RECORD, guard, round->number - 1);
        item->opening = true;
        return true;
    }
    if (!may_follow(batch, round->opening == DONE))
        return false;
    if (round->counting == TO_ASK || next_of_rest(batch, item))
        return true;
    *item = make_item(batch, CLOSING, guard, round->number - 1);
    if (round->closing != TO_ASK || open_list(batch, 0) < 0)
        return false;
    return may_follow(batch, outstanding(batch) == 0);
}

/* The next request that can be handed out; false if there is none now. */
static bool next_request(struct batch *batch, struct item *item)
{
    if (next_of_round(batch, item))
        return true;
    for (int i = 0; i < batch->asked; i++) {
        const struct progress *progress = &batch->progress[i];
        if (progress->list || progress->done || progress->next > 0)
            continue;
        *item = make_item(batch, RECORD, i, 0);
        return true;
    }
    return false;
}

/* The number of records that have not arrived. */
static int pending(const struct batch *batch)
{
    int count = 0;
    for (int i = 0; i < batch->asked; i++)
        if (is_open(batch, i))
            count += batch->progress[i].left;
    return count;
}

static void note_handed_out(struct batch *batch, const struct item *item)
{
    struct progress *progress = &batch->progress[item->ask];
    if (!progress->list)
        progress->next = 1;
    else if (item->kind == NUMBER)
        batch->round.counting = ASKED;
    else if (item->kind == CLOSING)
        batch->round.closing = ASKED;
    else if (item->opening)
        batch->round.opening = ASKED;
    else
        progress->next = item->record + 1;
}

static void handle(struct batch *batch, struct slot *slot, enum event event, int64_t now);

static void hand_out(struct batch *batch, int64_t now)
{
    struct item item;
    while (next_request(batch, &item)) {
        struct slot *slot = vacant(&batch->peer, pending(batch));
        if (slot == NULL) {
            if (batch->peer.busy == 0)
                fail_batch(batch, NO_MEMORY, 0);
            return;
        }
        note_handed_out(batch, &item);
        handle(batch, slot, begin(slot, &item, now), now);
    }
    return_idle(&batch->peer);
}

/* ---- Answers ---- */

static void take_record(struct batch *batch, int ask, int record, const struct slot *slot)
{
    struct progress *progress = &batch->progress[ask];
    shim_ask *told = &batch->seen.asks[ask];
    chrony_session *session = slot->socket.session;
    if (progress->done || (progress->list && is_taken(batch, ask, record)))
        return;
    shim_place *place = take_place(batch, ask, record);
    int error = NO_MEMORY;
    if (place != NULL)
        error = copy_record(&batch->store, place, session, told->flags, slot->source.address,
                            &progress->shape);
    if (error == SHIM_ABSURD)
        told->records = chrony.get_record_number_fields(session);
    if (error != OK)
        fail(batch, ask, error, 0);
    else if (--progress->left == 0 && !progress->list)
        conclude(batch, ask);
}

/* A record was read by its index. */
static void note_record(struct batch *batch, const struct slot *slot)
{
    struct round *round = &batch->round;
    if (!slot->item.opening) {
        note_stamp(round, slot->stamp);
        return;
    }
    round->opening = DONE;
    round->opened = slot->stamp;
    read_source(&round->last, slot->socket.session);
}

static void take_number(struct batch *batch, const struct slot *slot)
{
    struct round *round = &batch->round;
    int number = chrony.get_report_number_records(slot->socket.session);
    if (round->number < 0 && is_count_doubtful(round, number))
        return;
    round->counting = DONE;
    if (round->number >= 0 && round->number == number) {
        note_stamp(round, slot->stamp);
    } else if (round->number >= 0 && number >= 0 && number <= MAX_RECORDS) {
        batch->known = number;
        read_again(batch);
    } else {
        take_number_of_all(batch, number);
        batch->known = round->number;
        if (round->number > 0)
            round->counting = TO_ASK; /* again, between opening and closing */
    }
}

/* Take the address of a source, and ask for the record that needs it. */
static void take_address(struct batch *batch, struct slot *slot, int64_t now)
{
    struct item *item = &slot->item;
    int list = open_list(batch, SHIM_ADDRESSES);
    note_record(batch, slot);
    if (list >= 0)
        take_record(batch, list, item->record, slot);
    read_source(&slot->source, slot->socket.session);
    item->kind = RECORD;
    item->opening = false;
    if (is_open(batch, item->ask))
        handle(batch, slot, send_request(slot, now), now);
}

static void take_answer(struct batch *batch, struct slot *slot, int64_t now)
{
    const struct item *item = &slot->item;
    struct round *round = &batch->round;
    if (item->kind == NUMBER) {
        take_number(batch, slot);
    } else if (item->kind == CLOSING) {
        round->closing = DONE;
        round->closed = slot->stamp;
        read_source(&round->last_again, slot->socket.session);
    } else if (item->kind == ADDRESS) {
        take_address(batch, slot, now);
    } else {
        if (by_index(batch, item))
            note_record(batch, slot);
        take_record(batch, item->ask, item->record, slot);
    }
}

static void take_refusal(struct batch *batch, const struct slot *slot)
{
    const struct item *item = &slot->item;
    bool list = batch->progress[item->ask].list;
    if (list && item->kind != NUMBER && slot->error == UNEXPECTED_STATUS)
        miss_source(batch, item->record);
    else if (list && item->kind == CLOSING)
        read_again(batch);
    else if (list && item->kind == NUMBER)
        fail_lists(batch, slot->error, 0);
    else
        fail(batch, item->ask, slot->error, 0);
}

void begin_again(struct batch *batch)
{
    for (int i = 0; i < batch->asked; i++)
        if (!batch->progress[i].list)
            batch->progress[i].next = 0;
    batch->known = -1;
    batch->round.rounds++;
    restart_round(batch);
}

static void handle(struct batch *batch, struct slot *slot, enum event event, int64_t now)
{
    if (event == ANSWERED)
        take_answer(batch, slot, now);
    else if (event == REFUSED)
        take_refusal(batch, slot);
    else if (event == ABSENT)
        fail_batch(batch, batch->peer.error, batch->peer.system);
    else if (event == RESTARTED)
        begin_again(batch);
}

/* ---- The batch ---- */

/* Show the caller where everything is. */
static void publish(struct batch *batch)
{
    batch->seen.moved = batch->store.moved;
    batch->seen.bytes = batch->store.bytes;
    batch->seen.size = batch->store.size;
    batch->seen.answered = batch->peer.answered;
    batch->seen.round_trip = batch->peer.round_trip;
}

void stop_batch(struct batch *batch)
{
    batch->seen.running = false;
    rest_peer(&batch->peer);
}

/* The deadline has passed. */
static void expire(struct batch *batch)
{
    const struct peer *peer = &batch->peer;
    if (peer->error == OK && batch->round.rounds >= MANY_ROUNDS)
        fail_lists(batch, SHIM_CHANGING, batch->round.rounds);
    fail_batch(batch, peer->error != OK ? peer->error : SHIM_TIMEOUT, peer->system);
}

static void collect_all(struct batch *batch, int64_t now)
{
    for (struct slot *slot = batch->peer.slots; slot != NULL; slot = slot->next)
        handle(batch, slot, collect(slot, now), now);
}

static void repeat_all(struct batch *batch, int64_t now)
{
    for (struct slot *slot = batch->peer.slots; slot != NULL; slot = slot->next) {
        struct slot *repeated = slot;
        enum event event = repeat_overdue(&repeated, now);
        handle(batch, repeated, event, now);
    }
}

int64_t step_batch(struct batch *batch, int64_t now)
{
    collect_all(batch, now);
    if (!batch->seen.running)
        return NEVER;
    repeat_all(batch, now);
    do
        hand_out(batch, now);
    while (check_round(batch));
    if (batch->unfinished > 0 && now >= batch->deadline)
        expire(batch);
    if (batch->unfinished == 0)
        stop_batch(batch);
    publish(batch);
    int64_t due = batch->seen.running ? next_repetition(&batch->peer) : NEVER;
    return batch->seen.running && batch->deadline < due ? batch->deadline : due;
}

/* ---- Beginning and end ---- */

void init_batch(struct batch *batch, int64_t tag)
{
    batch->seen.tag = tag;
    batch->known = -1;
}

void free_batch(struct batch *batch)
{
    for (int i = 0; i < SHIM_ASKS; i++)
        free(batch->seen.asks[i].places);
    free(batch->store.bytes);
}

/* Take over what is asked; a report with a single record has its place from the beginning. */
static bool make_asks(struct batch *batch, const shim_ask *asks, int asked)
{
    if (asked > SHIM_ASKS)
        return false;
    batch->asked = batch->unfinished = asked;
    for (int i = 0; i < asked; i++) {
        shim_ask *told = &batch->seen.asks[i];
        struct progress *progress = &batch->progress[i];
        *told = (shim_ask){.report = asks[i].report, .flags = asks[i].flags, .places = told->places};
        *progress = (struct progress){
            .list = has(&asks[i], SHIM_SOURCES), .room = progress->room, .shape = -1};
        if (progress->list)
            continue;
        told->records = progress->left = 1;
        if (take_place(batch, i, 0) == NULL)
            return false;
    }
    return true;
}

int start_batch(struct batch *batch, const shim_ask *asks, int asked, int64_t timeout, int64_t now)
{
    if (batch->seen.running)
        stop_batch(batch);
    batch->store.used = 0;
    if (!make_asks(batch, asks, asked))
        return NO_MEMORY;
    batch->deadline = timeout >= 0 ? now + timeout : NEVER;
    start_peer(&batch->peer, timeout);
    batch->round = (struct round){0};
    batch->seen.running = true;
    restart_round(batch);
    return OK;
}
