#include "rounds.h"

#include <string.h>

/* If the same source is missing in so many rounds in a row, the sources are not changing: chronyd
   refuses this record. */
enum { MOST_GONE = 10 };

void begin_round(struct round *round)
{
    round->number = -1;
    round->counting = round->opening = round->closing = TO_ASK;
    round->opened = round->closed = round->earliest = round->latest = 0;
    round->recounts = round->gone;
}

void note_stamp(struct round *round, int stamp)
{
    if (round->earliest == 0 || stamp < round->earliest)
        round->earliest = stamp;
    if (stamp > round->latest)
        round->latest = stamp;
}

bool note_gone(struct round *round, int record)
{
    bool same = round->number == round->gone_number && record == round->gone_record;
    round->gone = same ? round->gone + 1 : 1;
    round->gone_number = round->number;
    round->gone_record = record;
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

enum verdict judge(const struct round *round)
{
    if (round->number == 0)
        return SOUND;
    if (round->earliest < round->opened ||
        memcmp(&round->last, &round->last_again, sizeof(round->last)) != 0)
        return READ_AGAIN;
    return round->closed < round->latest ? CLOSE_AGAIN : SOUND;
}
