/*
 * Sixth layer (batch.c): batches. A batch is a set of reports to ask for (the asks) and one
 * deadline for all of them.
 */
#pragma once
#include "exchange.h"
#include "rounds.h"

/* How much of one report has been read. */
struct progress {
    bool list;
    bool done;
    int next;   /* the next record to ask for */
    int left;   /* records that have not arrived yet */
    int places; /* number of places that are in use */
    int room;   /* number of places there is memory for */
    int shape;  /* of the last record, to try first for the next */
};

struct batch {
    shim_batch seen; /* the part that the caller sees */
    struct peer peer;
    struct store store;
    struct progress progress[SHIM_ASKS];
    int asked;
    int unfinished; /* asks */
    int64_t deadline;
    int known; /* the number of sources when last read; -1: never */
    int guard; /* the ask whose last record is read first; -1: no list is being read */
    struct round round;
};

void init_batch(struct batch *batch, int64_t tag);
void free_batch(struct batch *batch);

/* Begin a batch with a copy of `asks`, but do not send anything yet. Returns 0 or an error. */
int start_batch(struct batch *batch, const shim_ask *asks, int asked, int64_t timeout, int64_t now);

/* Move the batch on as far as it goes without waiting. Returns when it must be stepped at the
   latest. */
int64_t step_batch(struct batch *batch, int64_t now);

/* End what has not been read yet with an error. */
void fail_batch(struct batch *batch, int error, int system);

/* Give the batch up. */
void stop_batch(struct batch *batch);

/* Ask again for everything that has not arrived. */
void begin_again(struct batch *batch);
