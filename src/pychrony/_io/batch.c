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
 * reason; the first request stays in flight, since its answer may only be slow. An exchange that
 * did not end cleanly could affect the next answer, so its session is replaced. A Unix socket loses
 * no request, but does not survive a restart of chronyd: all sockets are then replaced, and the
 * lists begin again. The number of sockets depends on how long a round trip takes compared with
 * opening a socket: a few on the same machine, and one for each request that can be in flight to a
 * distant chronyd.
 */
#include "batch.h"

#include <errno.h>
#include <stdlib.h>

enum {
    MOST_ROUNDS = 1000, /* without a deadline, give up after so many */
    MANY_ROUNDS = 3,    /* after so many, report "the sources kept changing" instead of a timeout */
    FEW_PLACES = 64     /* enough for most lists */
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
    for (int i = 0; i < batch->seen.asked; i++)
        if (is_open_list(batch, i) && (flag == 0 || has(&batch->asks[i], flag)))
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

/* Give up the requests of one ask, except those that serve all lists. */
static void release_ask(struct batch *batch, int ask)
{
    for (struct slot *slot = batch->peer.slots; slot != NULL; slot = slot->next) {
        bool common = slot->item.kind == NUMBER || slot->item.kind == CLOSING;
        if (slot->state == IDLE || slot->item.ask != ask || (batch->progress[ask].list && common))
            continue;
        release(slot);
    }
}

static void restart_round(struct batch *batch);

/* End an ask with an error. */
static void fail(struct batch *batch, int ask, int error, int system)
{
    if (!is_open(batch, ask))
        return;
    release_ask(batch, ask);
    conclude(batch, ask);
    batch->asks[ask].error = error;
    batch->asks[ask].system = system;
    if (batch->guard == ask && batch->round.opening != DONE)
        restart_round(batch); /* with another guard */
}

void fail_batch(struct batch *batch, int error, int system)
{
    batch->guard = -1;
    for (int i = 0; i < batch->seen.asked; i++)
        fail(batch, i, error, system);
}

static void fail_lists(struct batch *batch, int error, int records)
{
    batch->guard = -1;
    for (int i; (i = open_list(batch, 0)) >= 0;) {
        batch->asks[i].records = records;
        fail(batch, i, error, 0);
    }
}

/* ---- Places ---- */

/* The place of a record; NULL if it has none yet. */
static shim_place *find_place(struct batch *batch, int ask, int record)
{
    struct progress *progress = &batch->progress[ask];
    if (progress->list && record == batch->asks[ask].records - 1)
        return &progress->last;
    return record < progress->room ? &batch->store.places[batch->asks[ask].first + record] : NULL;
}

static bool is_taken(struct batch *batch, int ask, int record)
{
    const shim_place *place = find_place(batch, ask, record);
    return place != NULL && place->shape >= 0;
}

/* Make sure that the first `number` records of an ask have places. False: no memory. */
static bool make_places(struct batch *batch, int ask, int number)
{
    struct progress *progress = &batch->progress[ask];
    shim_ask *told = &batch->asks[ask];
    struct store *store = &batch->store;
    if (number <= progress->room)
        return true;
    int first = add_places(store, number);
    if (first < 0)
        return false;
    for (int i = 0; i < progress->room; i++)
        store->places[first + i] = store->places[told->first + i];
    told->first = first;
    progress->room = number;
    return true;
}

/* Return the place of a record that has arrived; NULL without memory. The memory grows with what
   has arrived, not with the number of records that chronyd claims to have. */
static shim_place *take_place(struct batch *batch, int ask, int record)
{
    shim_place *place = find_place(batch, ask, record);
    if (place != NULL)
        return place;
    int number = record < FEW_PLACES ? FEW_PLACES : 2 * record;
    if (number > batch->asks[ask].records)
        number = batch->asks[ask].records;
    return make_places(batch, ask, number) ? find_place(batch, ask, record) : NULL;
}

/* Forget what has been read of a list, which now has `number` records. */
static void clear_list(struct batch *batch, int ask, int number)
{
    struct progress *progress = &batch->progress[ask];
    for (int i = 0; i < progress->room; i++)
        batch->store.places[batch->asks[ask].first + i].shape = -1;
    batch->asks[ask].records = progress->left = number;
    progress->last.shape = -1;
    progress->next = 0;
}

/* Put the last record of a complete list in its place among the others. False: no memory. */
static bool complete_list(struct batch *batch, int ask)
{
    struct progress *progress = &batch->progress[ask];
    int number = batch->asks[ask].records;
    if (!make_places(batch, ask, number))
        return false;
    if (number > 0) { /* and reuse the memory of the record that was there before */
        shim_place *place = &batch->store.places[batch->asks[ask].first + number - 1];
        shim_place before = *place;
        *place = progress->last;
        progress->last = before;
    }
    return true;
}

/* ---- Rounds ---- */

/* Choose the list whose last record is read first. A list that is asked for by address is best,
   since the opening then also yields that address. */
static int choose_guard(const struct batch *batch)
{
    int guard = open_list(batch, SHIM_ADDRESSED);
    if (guard < 0)
        guard = open_list(batch, SHIM_ADDRESSES);
    return guard >= 0 ? guard : open_list(batch, 0);
}

/* Take the number of records of all lists. */
static void take_number_of_all(struct batch *batch, int number)
{
    if (number < 0 || number > MAX_RECORDS) {
        fail_lists(batch, SHIM_ABSURD, number);
        return;
    }
    set_number(&batch->round, number);
    for (int i = 0; i < batch->seen.asked; i++)
        if (is_open_list(batch, i))
            clear_list(batch, i, number);
}

static void restart_round(struct batch *batch)
{
    for (struct slot *slot = batch->peer.slots; slot != NULL; slot = slot->next)
        if (slot->state != IDLE && batch->progress[slot->item.ask].list)
            release(slot);
    begin_round(&batch->round);
    batch->guard = choose_guard(batch);
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

/* Whether all records of all lists have arrived, and each list is in one piece. */
static bool are_lists_complete(struct batch *batch)
{
    for (int i = 0; i < batch->seen.asked; i++)
        if (is_open_list(batch, i) && batch->progress[i].left > 0)
            return false;
    return outstanding(batch) == 0;
}

static bool complete_lists(struct batch *batch)
{
    for (int i = 0; i < batch->seen.asked; i++)
        if (is_open_list(batch, i) && !complete_list(batch, i))
            return false;
    return true;
}

/* End the round if it is complete. True: there is more to ask for. */
static bool check_round(struct batch *batch)
{
    struct round *round = &batch->round;
    if (open_list(batch, 0) < 0 || !is_enclosed(round) || !are_lists_complete(batch))
        return false;
    enum verdict verdict = judge(round);
    if (verdict == CLOSE_IT) {
        if (round->closing != DONE)
            return false; /* there is no free slot for it */
        round->closing = TO_ASK;
        return true;
    }
    if (verdict == READ_AGAIN)
        read_again(batch);
    else if (verdict == SOUND && complete_lists(batch))
        conclude_lists(batch);
    else
        fail_lists(batch, NO_MEMORY, 0);
    return true;
}

/* ---- Requests ---- */

static struct item make_item(const struct batch *batch, enum kind kind, int ask, int record)
{
    const shim_ask *told = &batch->asks[ask];
    bool addressed = has(told, SHIM_ADDRESSED);
    if (kind == RECORD && addressed && batch->progress[ask].list)
        kind = ADDRESS; /* the record follows */
    return (struct item){kind, ask, record, told->report, addressed};
}

/* Whether requests that must follow others may be sent: once those are answered, or once they are
   sent if chronyd serves requests in order. */
static bool may_follow(const struct batch *batch, bool answered)
{
    return answered || (batch->peer.ordered && batch->peer.stuck == 0);
}

/* Whether a request is the opening of the round. */
static bool opens(const struct batch *batch, const struct item *item)
{
    return item->ask == batch->guard && item->record == batch->round.number - 1 &&
           item->kind != NUMBER && item->kind != CLOSING && by_index(batch, item);
}

/* The next request between opening and closing. */
static bool next_of_rest(struct batch *batch, struct item *item)
{
    int number = batch->round.number;
    bool addressed = open_list(batch, SHIM_ADDRESSED) >= 0;
    for (int i = 0; i < batch->seen.asked; i++) {
        int *next = &batch->progress[i].next;
        /* Its records arrive anyway, as the addresses for the other lists. */
        if (!is_open_list(batch, i) || (addressed && has(&batch->asks[i], SHIM_ADDRESSES)))
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
        return true;
    }
    if (!may_follow(batch, round->opening == DONE))
        return false;
    if (round->counting == TO_ASK || next_of_rest(batch, item))
        return true;
    *item = make_item(batch, CLOSING, guard, round->number - 1);
    if (round->closing != TO_ASK || open_list(batch, 0) < 0)
        return false;
    int left = outstanding(batch);
    bool needed = round->latest > 0 || left > (round->opening == ASKED);
    return needed && may_follow(batch, left == 0);
}

/* The next request that can be handed out; false if there is none now. */
static bool next_request(struct batch *batch, struct item *item)
{
    if (next_of_round(batch, item))
        return true;
    for (int i = 0; i < batch->seen.asked; i++) {
        const struct progress *progress = &batch->progress[i];
        if (progress->list || progress->done || progress->next > 0)
            continue;
        *item = make_item(batch, progress->probing ? NUMBER : RECORD, i, 0);
        return true;
    }
    return false;
}

/* The number of requests that remain to be handed out. */
static int pending(const struct batch *batch)
{
    int count = 0, number = batch->round.number > 0 ? batch->round.number : 0;
    for (int i = 0; i < batch->seen.asked; i++) {
        if (is_open_list(batch, i))
            count += number - batch->progress[i].next;
        else if (is_open(batch, i))
            count += batch->progress[i].next == 0;
    }
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
    else if (opens(batch, item))
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
    shim_ask *told = &batch->asks[ask];
    chrony_session *session = slot->socket->session;
    if (progress->done || (progress->list && is_taken(batch, ask, record)))
        return;
    shim_place *place = take_place(batch, ask, record);
    int error = NO_MEMORY;
    if (place != NULL)
        error = copy_record(&batch->store, place, session, told->flags, slot->address,
                            &progress->shape);
    if (error == SHIM_ABSURD)
        told->records = chrony.get_record_number_fields(session);
    if (error != OK)
        fail(batch, ask, error, 0);
    else if (--progress->left == 0 && !progress->list)
        conclude(batch, ask);
}

/* Note which source a record belongs to that was read by its index. */
static void take_source(struct batch *batch, const struct slot *slot)
{
    const struct item *item = &slot->item;
    bool opening = opens(batch, item) && batch->round.opening != DONE;
    int likely = item->kind == RECORD ? batch->progress[item->ask].shape : -1;
    struct identity source = read_identity(slot->socket->session, likely);
    if (!note_source(&batch->round, item->record, item->ask, source, slot->stamp, opening))
        fail_lists(batch, NO_MEMORY, 0);
}

static void take_number(struct batch *batch, const struct slot *slot)
{
    struct round *round = &batch->round;
    int number = chrony.get_report_number_records(slot->socket->session);
    if (round->number < 0 && is_count_doubtful(round, number))
        return;
    round->counting = DONE;
    if (round->number >= 0 && round->number == number) {
        confirm_number(round, slot->stamp);
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
    take_source(batch, slot);
    if (list >= 0)
        take_record(batch, list, item->record, slot);
    read_address(slot->address, slot->socket->session);
    item->kind = RECORD;
    if (is_open(batch, item->ask))
        handle(batch, slot, send_request(slot, now), now);
}

static void take_answer(struct batch *batch, struct slot *slot, int64_t now)
{
    const struct item *item = &slot->item;
    struct progress *progress = &batch->progress[item->ask];
    if (item->kind == NUMBER && !progress->list) {
        progress->probing = false; /* libchrony answered: not a list */
        progress->next = 0;
    } else if (item->kind == NUMBER) {
        take_number(batch, slot);
    } else if (item->kind == CLOSING) {
        note_closing(&batch->round, read_identity(slot->socket->session, -1), slot->stamp);
    } else if (item->kind == ADDRESS) {
        take_address(batch, slot, now);
    } else {
        if (by_index(batch, item))
            take_source(batch, slot);
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

/* libchrony asked chronyd for the number of records, so the report is a list. */
static void take_list(struct batch *batch, int ask)
{
    bool alone = open_list(batch, 0) < 0;
    batch->progress[ask].list = true;
    if (!alone) {
        restart_round(batch); /* which includes it from now on */
        return;
    }
    batch->guard = ask;
    batch->round.counting = ASKED;
}

void begin_again(struct batch *batch)
{
    for (int i = 0; i < batch->seen.asked; i++)
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
    else if (event == SENT && slot->item.kind == NUMBER && !batch->progress[slot->item.ask].list)
        take_list(batch, slot->item.ask);
}

/* ---- The batch ---- */

/* Show the caller where everything is. */
static void publish(struct batch *batch)
{
    batch->seen.asks = batch->asks;
    batch->seen.moved = batch->store.moved;
    batch->seen.room = batch->store.room;
    batch->seen.places = batch->store.places;
    batch->seen.bytes = batch->store.bytes;
    batch->seen.size = batch->store.size;
    batch->seen.answered = batch->peer.answered;
    batch->seen.round_trip = batch->peer.round_trip;
}

void stop_batch(struct batch *batch)
{
    batch->running = false;
    rest_peer(&batch->peer);
}

/* The deadline has passed. */
static void expire(struct batch *batch)
{
    const struct peer *peer = &batch->peer;
    note_absence(&batch->peer);
    if (peer->error == OK && batch->round.rounds >= MANY_ROUNDS)
        fail_lists(batch, SHIM_CHANGING, batch->round.rounds);
    fail_batch(batch, peer->error != OK ? peer->error : SHIM_TIMEOUT, peer->system);
}

int64_t batch_due(const struct batch *batch)
{
    int64_t due = batch->running ? next_repetition(&batch->peer) : NEVER;
    return batch->running && batch->deadline < due ? batch->deadline : due;
}

void postpone_batch(struct batch *batch, int64_t pause)
{
    if (!batch->running)
        return;
    if (batch->deadline != NEVER)
        batch->deadline += pause;
    postpone_peer(&batch->peer, pause);
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
    if (!batch->running)
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
    return batch_due(batch);
}

/* ---- Beginning and end ---- */

void init_batch(struct batch *batch, int64_t tag)
{
    batch->seen.tag = tag;
    batch->known = -1;
}

void free_batch(struct batch *batch)
{
    free(batch->asks);
    free(batch->progress);
    free(batch->store.bytes);
    free(batch->store.places);
    free(batch->round.addresses);
}

static bool make_asks(struct batch *batch, const shim_ask *asks, int asked)
{
    if (asked > batch->ask_room) {
        shim_ask *told = realloc(batch->asks, sizeof(*told) * (size_t)asked);
        if (told != NULL)
            batch->asks = told;
        struct progress *progress = realloc(batch->progress, sizeof(*progress) * (size_t)asked);
        if (progress != NULL)
            batch->progress = progress;
        if (told == NULL || progress == NULL)
            return false;
        batch->ask_room = asked;
    }
    batch->seen.asked = batch->unfinished = asked;
    for (int i = 0; i < asked; i++) {
        batch->asks[i] = (shim_ask){.report = asks[i].report, .flags = asks[i].flags};
        batch->progress[i] = (struct progress){
            .list = has(&asks[i], SHIM_SOURCES),
            .probing = has(&asks[i], SHIM_NAMED) && !has(&asks[i], SHIM_SOURCES),
            .shape = -1,
            .last.shape = -1,
        };
    }
    return true;
}

/* Make the place of each report with a single record. */
static bool make_single_places(struct batch *batch)
{
    for (int i = 0; i < batch->seen.asked; i++) {
        if (batch->progress[i].list)
            continue;
        if (!make_places(batch, i, 1))
            return false;
        batch->asks[i].records = batch->progress[i].left = 1;
    }
    return true;
}

int start_batch(struct batch *batch, const shim_ask *asks, int asked, int64_t timeout, int64_t now)
{
    if (batch->running)
        stop_batch(batch);
    batch->store.used = 0;
    batch->store.placed = 0;
    if (!make_asks(batch, asks, asked) || !make_single_places(batch))
        return NO_MEMORY;
    batch->deadline = timeout >= 0 ? now + timeout : NEVER;
    start_peer(&batch->peer, timeout);
    forget_rounds(&batch->round);
    batch->running = true;
    restart_round(batch);
    publish(batch);
    return OK;
}
