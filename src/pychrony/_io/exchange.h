/*
 * Fourth layer (exchange.c): single requests to one chronyd, the peer. It sends, receives and
 * repeats them, and returns what happened as events, for the layer above to handle.
 */
#pragma once
#include "records.h"
#include "sockets.h"

enum { MILLISECOND = 1000000, SECOND = 1000000000 }; /* in nanoseconds */
#define NEVER INT64_MAX

enum { KEPT = 16 }; /* maximum of a peer's sockets between batches, or on the same machine */

/* What a request is for. */
enum kind {
    NUMBER, /* the number of records */
    RECORD, /* a record of a report */
    ADDRESS, /* the sourcestats record with the address by which to ask for the record */
    CLOSING /* the last record of a list again: see rounds.h */
};

struct item {
    enum kind kind;
    int ask, record; /* which of the caller's reports, and which record of it */
    int report;      /* its place in libchrony's list */
    bool addressed;  /* libchrony asks for its records by the address of the source */
    bool opening;    /* it is the first of a round: see rounds.h */
};

/* What has happened to a request, or to its peer. */
enum event {
    NOTHING,
    ANSWERED, /* the session of its slot holds the answer */
    REFUSED,  /* libchrony or chronyd refused it: see the slot's `error` */
    ABSENT,   /* chronyd is not there: see the peer's `error` and `system` */
    RESTARTED /* chronyd was restarted, and its sources may differ; all requests are given up */
};

enum state {
    IDLE,    /* nothing to do */
    BLOCKED, /* a request could not be sent: a queue is full */
    WAITING, /* a request was sent */
    LATER    /* chronyd is not there; try again later */
};

/* A place for one request at a time, with the socket that it uses. */
struct slot {
    struct socket socket;
    struct peer *peer;
    struct slot *next;
    struct item item;
    enum state state;
    int error;  /* libchrony's, if the request was refused */
    bool fresh; /* the socket was opened for this batch, and has received nothing yet */
    int tries;
    int stamp; /* number of the request, in the order in which the batch sent them */
    int64_t sent;
    int64_t again;    /* when to ask again */
    int64_t interval; /* from `sent` to `again` */
    struct source source; /* once its address is known */
};

/* A chronyd, and the requests to it. */
struct peer {
    struct hub *hub;
    void *owner; /* of its sockets: see sockets.h */
    char address[128]; /* the longest path of a Unix socket has 107 characters */
    bool ordered;      /* chronyd serves requests in the order of sending: a Unix socket */

    struct slot *slots;
    int kept;  /* the caller's limit, at most KEPT */
    int open;  /* sockets */
    int busy;  /* slots that are not idle */
    int stuck; /* slots with a request that is not sent yet */
    int batches;

    int64_t round_trip, variation; /* RFC 6298's SRTT and RTTVAR, or 0 */
    int64_t best;                  /* the shortest round trip, or 0 */

    /* Of the current batch: */
    int64_t patience; /* the longest first wait for an answer */
    int stamp;        /* of the last request */
    bool reached;     /* chronyd accepted a request */
    bool answered;    /* it answered one */
    bool full;        /* no further socket can be opened */
    int error;        /* why chronyd is not there; 0 once it has answered */
    int system;
};

/* Open a first socket; at most `kept` stay open between batches. Returns 0, or an error with errno
   set. */
int open_peer(struct peer *peer, const char *address, int kept);

/* Close all sockets. */
void close_peer(struct peer *peer);

/* Close all sockets, and free the slots. */
void free_peer(struct peer *peer);

/* Prepare for a batch with this timeout (negative: none). */
void start_peer(struct peer *peer, int64_t timeout);

/* Give up all requests, and close sockets that are not worth keeping. */
void rest_peer(struct peer *peer);

/* Free the slot for another request, even if the current one may still be answered. */
void release(struct slot *slot);

/* Return a slot for one of `wanted` requests; NULL if they must wait for others to be answered. */
struct slot *vacant(struct peer *peer, int wanted);

/* Call this when there is nothing more to send for now. Closes idle sockets to a distant chronyd if
   other clients need more sockets. */
void return_idle(struct peer *peer);

/* Send the first request for an item. */
enum event begin(struct slot *slot, const struct item *item, int64_t now);

/* Send the slot's request, on a new socket if the current one cannot be used. */
enum event send_request(struct slot *slot, int64_t now);

/* Take in what has arrived at the slot's socket, if epoll has reported it. */
enum event collect(struct slot *slot, int64_t now);

/* Make collect() look for answers at all sockets. */
void look_again(struct peer *peer);

/* If it is time, repeat the slot's request; `slot` is then the one in which it was repeated. */
enum event repeat_overdue(struct slot **slot, int64_t now);

/* When the next repetition is due. */
int64_t next_repetition(const struct peer *peer);
