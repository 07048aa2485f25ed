/*
 * Fifth layer (rounds.c): the proof that lists are consistent.
 *
 * Sources come and go between two requests, which shifts the indices of other sources. chronyd
 * appends a new source, and closes the gap when it removes one (sources.c of chrony), so every
 * change that shifts a source also shifts the last one. All lists of a batch are read in one round:
 *
 *   counting   the number of records, which is the same for all lists;
 *   opening    the last record of one of the lists, the guard;
 *   the rest   all other records of all lists, in parallel;
 *   closing    the last record of the guard again. If it belongs to another source now, or does
 *              not exist, the round begins again, until the deadline.
 *
 * So no list lacks a source that was there all the time, or has one twice, unless the last source
 * was removed and added again during the call, which puts it back at the end after the others were
 * shifted.
 *
 * A client that has read a list before opens with the last index of that time, and counts
 * afterwards, together with the rest: a count between opening and closing proves that there was
 * nothing behind the last source. A client's first list is counted twice: before the opening, which
 * needs the number, and again after it.
 *
 * Over UDP, each of these steps waits for the answers of the one before. chronyd serves the
 * requests on a Unix socket in the order in which they were sent, so there the whole round can be
 * in flight at once. In both cases requests carry stamps, numbers in the order of sending. The
 * stamps of the requests that were answered prove that opening and closing enclose the others, even
 * when requests were lost and repeated. chronyd can also replace a source by another one at the
 * same index. So one more check is that all lists are about the same sources: if not, they are read
 * again, until they are, or until two rounds are the same.
 */
#pragma once
#include "records.h"

enum { MAX_RECORDS = 65536 }; /* of a list; chronyd's own limit is far below */

enum stage { TO_ASK, ASKED, DONE };

struct round {
    int number; /* of sources; -1 while unknown */
    enum stage counting, opening, closing;
    struct source last, last_again; /* the last source, at opening and closing */
    int opened, closed;   /* the stamps of these two */
    int earliest, latest; /* the stamps of all other requests; 0: none */
    bool compared; /* an earlier round was sound, but its lists were not about the same sources */
    uint64_t seen; /* hash of all addresses in that round */
    int rounds; /* how often the lists were begun again */
    int gone;   /* rounds in a row that ended in the same way: a source was missing */
    int gone_number, gone_record; /* the number of sources in these rounds, and which was missing */
    int recounts; /* how often the number is asked for again before this round */
};

/* Begin a round. Before the first one of a batch, the structure is all zero. */
void begin_round(struct round *round);

/* A request other than opening and closing was answered. */
void note_stamp(struct round *round, int stamp);

/* A source that was counted does not exist. Returns true if the same source was missing in many
   rounds in a row while nothing else changed: so chronyd refuses that record for another reason. */
bool note_gone(struct round *round, int record);

/* After a round in which a source was missing, ask for the number several times, to see whether it
   changes. Returns whether to ask for it again. */
bool is_count_doubtful(struct round *round, int number);

/* What to do about a complete round. */
enum verdict {
    CLOSE_AGAIN, /* ask for the last record again */
    READ_AGAIN,  /* the sources have changed, or may have */
    SOUND
};
enum verdict judge(const struct round *round);
