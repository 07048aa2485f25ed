/*
 * Decides whether the lists of a round are consistent.
 */
#include "rounds.h"

#include <stdlib.h>
#include <string.h>

/* If the same source is missing in so many rounds in a row, the sources are not changing: chronyd
   refuses this record. */
enum { MOST_GONE = 10 };

void forget_rounds(struct round *round)
{
    round->rounds = round->gone = 0;
    round->compared = false;
}

void begin_round(struct round *round)
{
    round->number = -1;
    round->counting = round->opening = round->closing = TO_ASK;
    round->opened = round->closed = round->earliest = round->latest = 0;
    round->differ = false;
    round->seen = round->last_address = 0;
    round->recounts = round->gone;
}

void set_number(struct round *round, int number)
{
    round->number = number;
    if (round->room > 0)
        memset(round->addresses, 0, sizeof(*round->addresses) * (size_t)round->room);
}

static void note_stamp(struct round *round, int stamp)
{
    if (round->earliest == 0 || stamp < round->earliest)
        round->earliest = stamp;
    if (stamp > round->latest)
        round->latest = stamp;
}

void confirm_number(struct round *round, int stamp)
{
    round->counting = DONE;
    note_stamp(round, stamp);
}

/* ---- Sources ---- */

/* Where the address of a source is noted; NULL without memory. The memory grows with what has
   arrived, not with the number of sources that chronyd claims to have. */
static uint64_t *address_of(struct round *round, int record)
{
    if (record == round->number - 1)
        return &round->last_address;
    if (record >= round->room) {
        int room = record < 32 ? 64 : 2 * record;
        uint64_t *more = realloc(round->addresses, sizeof(*more) * (size_t)room);
        if (more == NULL)
            return NULL;
        memset(more + round->room, 0, sizeof(*more) * (size_t)(room - round->room));
        round->addresses = more;
        round->room = room;
    }
    return &round->addresses[record];
}

bool note_source(struct round *round, int record, int ask, struct identity source, int stamp,
                 bool opening)
{
    uint64_t *address = address_of(round, record);
    if (address == NULL)
        return false;
    if (opening) {
        round->opening = DONE;
        round->opened = stamp;
        round->last = source.whole;
    } else {
        note_stamp(round, stamp);
    }
    if (*address != 0 && *address != source.address)
        round->differ = true;
    *address = source.address;
    round->seen += source.whole * (2 * (uint64_t)record + 1) + (uint64_t)ask;
    return true;
}

void note_closing(struct round *round, struct identity source, int stamp)
{
    round->closing = DONE;
    round->closed = stamp;
    round->last_again = source.whole;
}

bool note_gone(struct round *round, int record)
{
    const uint64_t *noted = address_of(round, record);
    uint64_t address = noted != NULL ? *noted : 0;
    bool same = round->number == round->gone_number && record == round->gone_record &&
                address == round->gone_address;
    round->gone = same ? round->gone + 1 : 1;
    round->gone_number = round->number;
    round->gone_record = record;
    round->gone_address = address;
    return round->gone >= MOST_GONE;
}

bool is_count_doubtful(struct round *round, int number)
{
    if (round->recounts == 0)
        return false;
    round->recounts--;
    if (number != round->gone_number)
        round->gone = round->recounts = 0;
    round->counting = TO_ASK;
    return true;
}

/* ---- Verdicts ---- */

bool is_enclosed(const struct round *round)
{
    return round->counting == DONE && (round->number == 0 || round->opening == DONE);
}

enum verdict judge(struct round *round)
{
    if (round->latest > 0) { /* the opening was not the only request */
        if (round->closing != DONE)
            return CLOSE_IT;
        if (round->earliest < round->opened || round->last_again != round->last)
            return READ_AGAIN;
        if (round->closed < round->latest)
            return CLOSE_IT;
    }
    bool stays = round->compared && round->seen == round->seen_before;
    round->compared = true;
    round->seen_before = round->seen;
    return stays || !round->differ ? SOUND : READ_AGAIN;
}
