/*
 * How a batch runs.
 *
 * A client has slots: each is a socket with a libchrony session on it, and at most one request in
 * flight. A batch is a set of reports to ask for (the asks) and one deadline for all of them.
 * step_batch() moves it on as far as possible without waiting: it takes in the answers that have
 * arrived, repeats overdue requests, gives the next requests to free slots, and computes when it is
 * due again. The loop (loop.c) calls it when a socket of the client is readable, or when the client
 * is due. Blocking calls, event loops and thousands of daemons at once all use this one function.
 *
 * Reports with a single record can be asked for at any time. Lists cannot: sources come and go
 * between two requests, which shifts the indices of other sources. chronyd appends a new source,
 * and closes the gap when it removes one (sources.c of chrony), so every change that shifts a
 * source also shifts the last one. All lists of a batch are read in one round:
 *
 *   counting   the number of records, which is the same for all lists;
 *   opening    the last record of one of the lists, the guard;
 *   the rest   all other records of all lists, in parallel;
 *   closing    the last record of the guard again. If it belongs to another source now, or does
 *              not exist, the round begins again, until the deadline.
 *
 * A client that has read a list before opens with the last index of that time, and counts
 * afterwards, together with the rest: a count between opening and closing proves that there was
 * nothing behind the last source. A client's first list is counted twice: before the opening, which
 * needs the number, and again after it.
 *
 * Over UDP, each of these steps waits for the answers of the one before. chronyd serves the
 * requests on a Unix socket in the order in which they were sent, so there the whole round can be
 * in flight at once. In both cases requests carry stamps, numbers in the order of sending. The
 * stamps of the requests that were answered prove that opening and closing enclose the others,
 * even when requests were lost and repeated. Two further checks find what these stamps cannot
 * show: no list has a source twice, and all lists are about the same sources. If a check fails,
 * the lists are read again, until two rounds agree.
 *
 * libchrony asks for the authentication and the NTP data of a source by its address, which it takes
 * from the sourcestats record that its session holds. So the round asks for sourcestats by index,
 * and the request by address follows in the same slot.
 *
 * An overdue request (RFC 6298) is repeated on another socket, since the old socket may be the
 * reason; the first request stays in flight, since its answer may only be slow. An exchange that
 * did not end cleanly could affect the next answer, so its session is replaced. A Unix socket does
 * not survive a restart of chronyd: all sockets are then replaced, and the lists begin again. The
 * number of sockets depends on how long a round trip takes compared with opening a socket: a few on
 * the same machine, and one for each request that can be in flight to a distant chronyd.
 */
#include "engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_PATIENCE = 250 * MILLISECOND, /* before a first repetition, if no round trip is known */
    FAR = 5 * MILLISECOND,             /* a round trip that makes many sockets worthwhile */
    MOST_GONE = 16,                    /* rounds in which a source that was counted did not exist */
    MOST_ROUNDS = 1000,                /* for callers without a deadline */
    MANY_ROUNDS = 3                    /* after these, changes explain a deadline that passes */
};

bool has(const shim_ask *ask, int flag) { return (ask->flags & flag) != 0; }

/* ---- Asks ---- */

static bool is_open(const shim_client *client, int ask) { return !client->progress[ask].done; }

static bool is_open_list(const shim_client *client, int ask)
{
    return client->progress[ask].list && is_open(client, ask);
}

/* The first open list with this flag (0: any); -1 if there is none. */
static int open_list(const shim_client *client, int flag)
{
    for (int i = 0; i < client->batch.asked; i++)
        if (is_open_list(client, i) && (flag == 0 || has(&client->asks[i], flag)))
            return i;
    return -1;
}

/* Whether a request is part of a round: for a record by its index, or for their number. */
static bool by_index(const shim_client *client, const struct item *item)
{
    if (!client->progress[item->ask].list)
        return false;
    return item->kind != RECORD || !has(&client->asks[item->ask], SHIM_ADDRESSED);
}

/* The number of requests of the round that are not answered yet. */
static int outstanding(const shim_client *client)
{
    int count = 0;
    for (const struct slot *slot = client->slots; slot != NULL; slot = slot->next)
        count += slot->state != IDLE && by_index(client, &slot->item);
    return count;
}

static bool is_taken(const shim_client *client, int ask, int record)
{
    return client->places[client->asks[ask].first + record].shape >= 0;
}

static void conclude(shim_client *client, int ask)
{
    client->progress[ask].done = true;
    client->unfinished--;
}

static void begin_round(shim_client *client);

/* Give up the requests of one ask, except those that serve all lists. */
static void release_ask(shim_client *client, int ask)
{
    for (struct slot *slot = client->slots; slot != NULL; slot = slot->next) {
        bool common = slot->item.kind == NUMBER || slot->item.kind == CLOSING;
        if (slot->state == IDLE || slot->item.ask != ask || (client->progress[ask].list && common))
            continue;
        release(slot);
    }
}

/* End an ask with an error, or with an earlier reading of its list if the lists only disagreed. */
static void fail(shim_client *client, int ask, int error, int system)
{
    struct progress *progress = &client->progress[ask];
    shim_ask *told = &client->asks[ask];
    if (progress->done)
        return;
    release_ask(client, ask);
    conclude(client, ask);
    if (progress->kept >= 0) {
        told->first = progress->kept;
        told->records = progress->kept_records;
    } else {
        told->error = error;
        told->system = system;
    }
    if (client->roster.guard == ask && client->roster.opening != ANSWERED)
        begin_round(client); /* with another guard */
}

void fail_all(shim_client *client, int error, int system)
{
    client->roster.guard = -1;
    for (int i = 0; i < client->batch.asked; i++)
        fail(client, i, error, system);
}

static void fail_lists(shim_client *client, int error, int records)
{
    client->roster.guard = -1;
    for (int i; (i = open_list(client, 0)) >= 0;) {
        client->asks[i].records = records;
        fail(client, i, error, 0);
    }
}

/* ---- Rounds ---- */

/* Choose the list whose last record is read first. A list that is asked for by address is best,
   since the opening then also yields that address. */
static int choose_guard(const shim_client *client)
{
    int guard = open_list(client, SHIM_ADDRESSED);
    if (guard < 0)
        guard = open_list(client, SHIM_ADDRESSES);
    return guard >= 0 ? guard : open_list(client, 0);
}

/* Make places for `number` records of a list; reuse those of an earlier round if there are enough.
   False: no memory. */
static bool make_places(shim_client *client, int ask, int number)
{
    struct progress *progress = &client->progress[ask];
    shim_ask *told = &client->asks[ask];
    if (number > progress->room) {
        int all = client->placed + number;
        if (all > client->batch.room) {
            shim_place *places = realloc(client->places, sizeof(*places) * (size_t)all);
            if (places == NULL)
                return false;
            client->batch.places = client->places = places;
            client->batch.room = all;
            client->batch.moved++;
        }
        told->first = client->placed;
        progress->room = number;
        client->placed = all;
        memset(client->places + told->first, 0, sizeof(shim_place) * (size_t)number);
    }
    for (int i = 0; i < number; i++)
        client->places[told->first + i].shape = -1;
    told->records = progress->left = number;
    progress->next = 0;
    return true;
}

static bool make_identities(struct roster *roster, int number)
{
    if (number > roster->room) {
        uint64_t *more = realloc(roster->identities, sizeof(*more) * (size_t)number);
        if (more == NULL)
            return false;
        roster->identities = more;
        roster->room = number;
    }
    if (number > 0)
        memset(roster->identities, 0, sizeof(*roster->identities) * (size_t)number);
    return true;
}

/* Set the number of records of all lists. */
static void set_number(shim_client *client, int number)
{
    struct roster *roster = &client->roster;
    roster->number = -1;
    if (number < 0 || number > MAX_RECORDS) {
        fail_lists(client, SHIM_ABSURD, number);
        return;
    }
    bool room = make_identities(roster, number);
    for (int i = 0; room && i < client->batch.asked; i++)
        room = !is_open_list(client, i) || make_places(client, i, number);
    if (room)
        roster->number = number;
    else
        fail_lists(client, NO_MEMORY, 0);
}

static void begin_round(shim_client *client)
{
    struct roster *roster = &client->roster;
    for (struct slot *slot = client->slots; slot != NULL; slot = slot->next)
        if (slot->state != IDLE && client->progress[slot->item.ask].list)
            release(slot);
    roster->number = -1;
    roster->counting = roster->opening = roster->closing = TO_ASK;
    roster->guard = choose_guard(client);
    roster->opened = roster->closed = roster->earliest = roster->latest = 0;
    roster->differ = false;
    roster->seen = 0;
    if (roster->guard >= 0 && client->known > 0)
        set_number(client, client->known);
}

/* The sources have changed, or may have: read the lists again. */
static void read_again(shim_client *client)
{
    if (++client->roster.rounds < MOST_ROUNDS)
        begin_round(client);
    else
        fail_lists(client, SHIM_CHANGING, client->roster.rounds);
}

/* A source that was counted does not exist. */
static void miss_source(shim_client *client)
{
    client->known = -1;
    if (++client->roster.gone < MOST_GONE)
        read_again(client);
    else
        fail_lists(client, UNEXPECTED_STATUS, 0);
}

/* Whether a request is the opening of the round. */
static bool opens(const shim_client *client, const struct item *item)
{
    const struct roster *roster = &client->roster;
    return item->ask == roster->guard && item->record == roster->number - 1 &&
           item->kind != NUMBER && item->kind != CLOSING && by_index(client, item);
}

static bool has_duplicates(const struct roster *roster)
{
    size_t size = 2;
    while (size < 2 * (size_t)roster->number)
        size *= 2;
    uint64_t *table = calloc(size, sizeof(*table));
    bool found = false;
    for (int i = 0; table != NULL && !found && i < roster->number; i++) {
        uint64_t identity = roster->identities[i];
        if (identity == NO_ADDRESS || identity == 0)
            continue;
        size_t at = identity & (size - 1);
        while (table[at] != 0 && table[at] != identity)
            at = (at + 1) & (size - 1);
        found = table[at] != 0;
        table[at] = identity;
    }
    free(table);
    return found;
}

/* Each list of this round is complete and consistent. Conclude them if they also agree with each
   other; true: they must be read again. */
static bool doubt_round(shim_client *client)
{
    struct roster *roster = &client->roster;
    bool twice = has_duplicates(roster);
    bool stays = roster->compared && roster->seen == roster->seen_before;
    if (stays || (!twice && !roster->differ)) {
        client->known = roster->number;
        for (int i; (i = open_list(client, 0)) >= 0;)
            conclude(client, i);
        return false;
    }
    for (int i = 0; !twice && i < client->batch.asked; i++) {
        if (!is_open_list(client, i))
            continue;
        client->progress[i].kept = client->asks[i].first;
        client->progress[i].kept_records = client->asks[i].records;
        client->progress[i].room = 0;
    }
    roster->compared = true;
    roster->seen_before = roster->seen;
    read_again(client);
    return true;
}

/* End the round if it is complete. True: there is more to ask for. */
static bool check_round(shim_client *client)
{
    struct roster *roster = &client->roster;
    if (open_list(client, 0) < 0 || roster->counting != ANSWERED ||
        (roster->number > 0 && roster->opening != ANSWERED))
        return false;
    for (int i = 0; i < client->batch.asked; i++)
        if (is_open_list(client, i) && client->progress[i].left > 0)
            return false;
    if (outstanding(client) > 0)
        return false;
    if (roster->latest > 0) { /* the opening was not the only request */
        if (roster->closing != ANSWERED)
            return false;
        if (roster->earliest < roster->opened || roster->last_again != roster->last) {
            read_again(client);
            return true;
        }
        if (roster->closed < roster->latest) {
            roster->closing = TO_ASK;
            return true;
        }
    }
    return doubt_round(client);
}

/* ---- Requests ---- */

/* Whether requests that must follow others may be sent: once those are answered, or once they are
   sent if chronyd serves requests in order. */
static bool may_follow(const shim_client *client, bool answered)
{
    return answered || (client->ordered && client->stuck == 0);
}

/* The next request between opening and closing. */
static bool next_of_rest(shim_client *client, struct item *item)
{
    const struct roster *roster = &client->roster;
    bool addressed = open_list(client, SHIM_ADDRESSED) >= 0;
    for (int i = 0; i < client->batch.asked; i++) {
        struct progress *progress = &client->progress[i];
        /* Its records arrive anyway, as the addresses for the other lists. */
        if (!is_open_list(client, i) || (addressed && has(&client->asks[i], SHIM_ADDRESSES)))
            continue;
        while (progress->next < roster->number &&
               (is_taken(client, i, progress->next) ||
                (i == roster->guard && progress->next == roster->number - 1)))
            progress->next++;
        *item = (struct item){has(&client->asks[i], SHIM_ADDRESSED) ? ADDRESS : RECORD, i,
                              progress->next};
        if (progress->next < roster->number)
            return true;
    }
    return false;
}

/* The next request of the round. */
static bool next_of_round(shim_client *client, struct item *item)
{
    const struct roster *roster = &client->roster;
    int guard = roster->guard;
    if (guard < 0)
        return false;
    if (roster->number < 0) {
        *item = (struct item){NUMBER, guard, 0};
        return roster->counting == TO_ASK;
    }
    if (roster->number == 0)
        return false;
    if (roster->opening == TO_ASK) {
        bool addressed = has(&client->asks[guard], SHIM_ADDRESSED);
        *item = (struct item){addressed ? ADDRESS : RECORD, guard, roster->number - 1};
        return true;
    }
    if (!may_follow(client, roster->opening == ANSWERED))
        return false;
    if (roster->counting == TO_ASK) {
        *item = (struct item){NUMBER, guard, 0};
        return true;
    }
    if (next_of_rest(client, item))
        return true;
    *item = (struct item){CLOSING, guard, roster->number - 1};
    if (roster->closing != TO_ASK || open_list(client, 0) < 0)
        return false;
    int left = outstanding(client);
    bool needed = roster->latest > 0 || left > (roster->opening == ASKED);
    return needed && may_follow(client, left == 0);
}

/* The next request that can be handed out; false if there is none now. */
static bool next_request(shim_client *client, struct item *item)
{
    if (next_of_round(client, item))
        return true;
    for (int i = 0; i < client->batch.asked; i++) {
        const struct progress *progress = &client->progress[i];
        if (progress->list || progress->done || progress->next > 0)
            continue;
        *item = (struct item){progress->probing ? NUMBER : RECORD, i, 0};
        return true;
    }
    return false;
}

/* The number of requests that remain to be handed out. */
static int pending(const shim_client *client)
{
    int count = 0, number = client->roster.number > 0 ? client->roster.number : 0;
    for (int i = 0; i < client->batch.asked; i++) {
        if (is_open_list(client, i))
            count += number - client->progress[i].next;
        else if (is_open(client, i))
            count += client->progress[i].next == 0;
    }
    return count;
}

static void note_handed_out(shim_client *client, const struct item *item)
{
    struct roster *roster = &client->roster;
    struct progress *progress = &client->progress[item->ask];
    if (!progress->list)
        progress->next = 1;
    else if (item->kind == NUMBER)
        roster->counting = ASKED;
    else if (item->kind == CLOSING)
        roster->closing = ASKED;
    else if (opens(client, item))
        roster->opening = ASKED;
    else
        progress->next = item->record + 1;
}

static void hand_out(shim_client *client, int64_t now)
{
    struct item item;
    while (next_request(client, &item)) {
        bool far = !client->ordered && client->best >= FAR;
        struct slot *slot = vacant(client, pending(client), far);
        if (slot == NULL)
            return;
        note_handed_out(client, &item);
        slot->item = item;
        begin(slot, now);
    }
}

/* ---- Answers ---- */

static void take_record(shim_client *client, int ask, int record, const struct slot *slot)
{
    struct progress *progress = &client->progress[ask];
    if (progress->done || (progress->list && is_taken(client, ask, record)))
        return;
    int error = copy_record(client, ask, record, slot->link.session, slot->address);
    if (error != OK)
        fail(client, ask, error, 0);
    else if (--progress->left == 0 && !progress->list)
        conclude(client, ask);
}

static void note_stamp(struct roster *roster, int stamp)
{
    if (roster->earliest == 0 || stamp < roster->earliest)
        roster->earliest = stamp;
    if (stamp > roster->latest)
        roster->latest = stamp;
}

/* Note which source a record belongs to that was read by its index. */
static void note_source(shim_client *client, const struct item *item, const struct slot *slot)
{
    struct roster *roster = &client->roster;
    bool own = item->kind == RECORD;
    int likely = own ? client->progress[item->ask].shape : -1;
    struct identity identity = read_identity(slot->link.session, likely);
    uint64_t *known = &roster->identities[item->record];
    if (opens(client, item) && roster->opening != ANSWERED) {
        roster->opening = ANSWERED;
        roster->opened = slot->stamp;
        roster->last = identity.whole;
    } else {
        note_stamp(roster, slot->stamp);
    }
    if (*known != 0 && *known != identity.address)
        roster->differ = true;
    *known = identity.address;
    roster->seen += identity.whole * (2 * (uint64_t)item->record + 1) + (uint64_t)item->ask;
}

static void take_number(shim_client *client, const struct slot *slot)
{
    struct roster *roster = &client->roster;
    int number = chrony.get_report_number_records(slot->link.session);
    roster->counting = ANSWERED;
    if (roster->number >= 0 && roster->number == number) {
        note_stamp(roster, slot->stamp);
    } else if (roster->number >= 0 && number >= 0 && number <= MAX_RECORDS) {
        client->known = number;
        read_again(client);
    } else {
        set_number(client, number);
        client->known = roster->number;
        if (roster->number > 0)
            roster->counting = TO_ASK; /* again, between opening and closing */
    }
}

static void take_closing(shim_client *client, const struct slot *slot)
{
    struct roster *roster = &client->roster;
    roster->closing = ANSWERED;
    roster->closed = slot->stamp;
    roster->last_again = read_identity(slot->link.session, -1).whole;
}

/* Take the address of a source, and ask for the record that needs it. */
static void take_address(struct slot *slot, int64_t now)
{
    shim_client *client = slot->client;
    struct item *item = &slot->item;
    int list = open_list(client, SHIM_ADDRESSES);
    note_source(client, item, slot);
    if (list >= 0)
        take_record(client, list, item->record, slot);
    read_address(slot->address, slot->link.session);
    item->kind = RECORD;
    if (is_open(client, item->ask))
        send_request(slot, now);
}

void take_answer(struct slot *slot, int64_t now)
{
    shim_client *client = slot->client;
    const struct item *item = &slot->item;
    bool indexed = by_index(client, item);
    set_state(slot, IDLE);
    release_twins(slot);
    if (item->kind == NUMBER && !client->progress[item->ask].list) {
        client->progress[item->ask].probing = false; /* libchrony answered: not a list */
        client->progress[item->ask].next = 0;
    } else if (item->kind == NUMBER) {
        take_number(client, slot);
    } else if (item->kind == CLOSING) {
        take_closing(client, slot);
    } else if (item->kind == ADDRESS) {
        take_address(slot, now);
    } else {
        if (indexed)
            note_source(client, item, slot);
        take_record(client, item->ask, item->record, slot);
    }
}

void take_list(struct slot *slot)
{
    shim_client *client = slot->client;
    bool alone = open_list(client, 0) < 0;
    client->progress[slot->item.ask].list = true;
    if (!alone) {
        begin_round(client); /* which includes it from now on */
        return;
    }
    client->roster.guard = slot->item.ask;
    client->roster.counting = ASKED;
}

void take_refusal(struct slot *slot, int error)
{
    shim_client *client = slot->client;
    struct item item = slot->item;
    bool list = client->progress[item.ask].list;
    set_state(slot, IDLE);
    release_twins(slot);
    if (list && item.kind != NUMBER && error == UNEXPECTED_STATUS)
        miss_source(client);
    else if (list && item.kind == CLOSING)
        read_again(client);
    else if (list && item.kind == NUMBER)
        fail_lists(client, error, 0);
    else
        fail(client, item.ask, error, 0);
}

void begin_again(shim_client *client)
{
    for (int i = 0; i < client->batch.asked; i++)
        if (!client->progress[i].list)
            client->progress[i].next = 0;
    client->known = -1;
    client->roster.rounds++;
    begin_round(client);
}

/* ---- The batch ---- */

static void end(shim_client *client, int64_t now)
{
    int open = 0;
    for (struct slot *slot = client->slots; slot != NULL; slot = slot->next) {
        release(slot);
        if (slot->link.fd >= 0 && ++open > client->kept)
            close_slot(slot);
    }
    client->running = false;
    client->idle_since = now;
    finish(client);
}

/* The deadline has passed. */
static void expire(shim_client *client)
{
    note_absence(client);
    if (client->error == OK && client->roster.rounds >= MANY_ROUNDS)
        fail_lists(client, SHIM_CHANGING, client->roster.rounds);
    fail_all(client, client->error != OK ? client->error : SHIM_TIMEOUT, client->system);
}

void step_batch(shim_client *client, int64_t now)
{
    if (client->forked) {
        client->forked = false;
        begin_again(client);
    }
    if (client->running && client->loop->over)
        fail_all(client, SHIM_UNREACHABLE, ECANCELED);
    receive_all(client, now);
    client->due = NEVER;
    if (!client->running)
        return;
    repeat_overdue(client, now);
    do
        hand_out(client, now);
    while (check_round(client));
    if (client->unfinished > 0 && now >= client->deadline)
        expire(client);
    if (client->unfinished == 0)
        end(client, now);
    else
        client->due = next_due(client);
}

/* ---- From outside ---- */

static void stop(shim_client *client)
{
    for (struct slot *slot = client->slots; slot != NULL; slot = slot->next)
        release(slot);
    client->running = false;
    client->idle_since = clock_now();
    client->due = NEVER;
}

static bool make_asks(shim_client *client, const shim_ask *asks, int asked)
{
    if (asked > client->ask_room) {
        shim_ask *told = realloc(client->asks, sizeof(*told) * (size_t)asked);
        if (told != NULL)
            client->batch.asks = client->asks = told;
        struct progress *progress = realloc(client->progress, sizeof(*progress) * (size_t)asked);
        if (progress != NULL)
            client->progress = progress;
        if (told == NULL || progress == NULL)
            return false;
        client->ask_room = asked;
    }
    client->batch.asked = client->unfinished = asked;
    for (int i = 0; i < asked; i++) {
        client->asks[i] = (shim_ask){.report = asks[i].report, .flags = asks[i].flags};
        client->progress[i] = (struct progress){
            .list = has(&asks[i], SHIM_SOURCES),
            .probing = has(&asks[i], SHIM_NAMED) && !has(&asks[i], SHIM_SOURCES),
            .shape = -1,
            .kept = -1,
        };
    }
    return true;
}

/* Make the places of all reports with a single record. */
static bool make_single_places(shim_client *client)
{
    for (int i = 0; i < client->batch.asked; i++)
        if (!client->progress[i].list && !make_places(client, i, 1))
            return false;
    return true;
}

static int start(shim_client *client, const shim_ask *asks, int asked, int64_t timeout)
{
    stop(client);
    remove_finished(client);
    client->used = 0;
    client->placed = 0;
    if (!make_asks(client, asks, asked) || !make_single_places(client))
        return NO_MEMORY;
    int64_t now = clock_now();
    client->deadline = timeout >= 0 ? now + timeout : NEVER;
    client->patience = timeout >= 0 && timeout / 4 < MOST_PATIENCE ? timeout / 4 : MOST_PATIENCE;
    client->stamp = 0;
    client->error = client->system = 0;
    client->full = client->forked = client->repeated = false;
    client->reached = false;
    client->batch.answered = 0;
    client->batches += client->batches < KEPT;
    for (struct slot *slot = client->slots; slot != NULL; slot = slot->next)
        slot->fresh = false;
    client->roster.rounds = client->roster.gone = 0;
    client->roster.compared = false;
    client->running = true;
    begin_round(client);
    make_ready(client);
    return OK;
}

int64_t shim_start(shim_client *client, const shim_ask *asks, int asked, int64_t timeout)
{
    lock_loop(client->loop);
    int error = start(client, asks, asked, timeout);
    int64_t due = error == OK ? step_now(client->loop) : -error;
    unlock_loop(client->loop);
    return error == OK && due < 0 ? INT64_MAX : due;
}

int shim_start_and_run(shim_client *client, const shim_ask *asks, int asked, int64_t timeout,
                       int64_t longest)
{
    int64_t due = shim_start(client, asks, asked, timeout);
    return due >= 0 ? shim_run(client->loop, longest) : (int)due;
}

void shim_stop(shim_client *client)
{
    lock_loop(client->loop);
    if (client->running)
        stop(client);
    remove_finished(client);
    unlock_loop(client->loop);
}
