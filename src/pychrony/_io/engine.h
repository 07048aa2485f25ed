/*
 * What the engine's C files share: its structures, the locks that guard them, and what each file
 * offers to the others. batch.c tells how a batch runs.
 *
 * Locks. Nothing waits for chronyd under any of them. In the order in which they are taken:
 *
 *   load_lock    (library.c)  the table of libchrony's functions until it is complete. After that,
 *                             it never changes, and all its users have called shim_load() before.
 *   loops_lock   (loop.c)     the list of all loops. Taken to add or remove one, to fork, to exit,
 *                             and, if it is free, to close idle sockets of other clients.
 *   loop->lock   (loop.c)     the loop, its clients, their batches and sockets. Taken by each
 *                             function of shim.h for as long as it runs, but never while it waits
 *                             for chronyd. Sockets are opened and closed under it: it is the lock
 *                             of one caller. Holders of loops_lock only try to take it, except
 *                             for fork and exit, which must wait.
 *   text_lock    (library.c)  the single buffer in which libchrony formats addresses. Held while
 *                             libchrony writes to it and until the text has been copied.
 *   shapes_lock  (records.c)  adding a shape. Reading takes no lock: a shape is complete before
 *                             the number of shapes, an atomic, counts it.
 *
 * A finished batch is read by its owner without a lock: only shim_start() on the same client
 * changes it. The budget of sockets is one atomic number. The engine does not rely on the GIL.
 *
 * fork() takes all locks first, so that the child sees no half-finished change (library.c).
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shim.h"
#include "libchrony.h"

enum { MILLISECOND = 1000000, SECOND = 1000000000 }; /* in nanoseconds */
#define NEVER INT64_MAX

enum {
    STRING_SIZE = 48,    /* an IPv6 address has 45 characters at most */
    MAX_RECORDS = 65536, /* of a list; chronyd's own limit is far below */
    KEPT = 16            /* sockets of a client, at most, between batches and on the same machine */
};

/* ---- Sockets ---- */

/* A socket and a session on it; closed if `fd` is negative. */
struct link {
    int fd;
    chrony_session *session;
    unsigned number; /* of the session, in the order in which the loop created them */
};

enum state {
    IDLE,    /* nothing to do */
    BLOCKED, /* a request could not be sent: chronyd's queue is full */
    WAITING, /* a request was sent */
    LATER    /* chronyd is not there; try again later */
};

/* What a request is for. */
enum kind {
    NUMBER, /* the number of records */
    RECORD, /* a record of a report */
    ADDRESS, /* the sourcestats record with the address by which to ask for the record */
    CLOSING /* the last record again: see batch.c */
};

struct item {
    enum kind kind;
    int ask;
    int record;
};

/* A socket with at most one request in flight. A repeated request occupies several slots.

   epoll's events point to slots, and may come late: closing a socket does not end its events while
   a new process still holds a copy of it, before its exec. So the memory of a slot remains a slot
   until the loop ends, and an event for which there is no reason does no harm. */
struct slot {
    struct link link;
    shim_client *client; /* NULL: a spare session, or unused */
    struct slot *next;   /* of the client, or unused */
    struct item item;
    enum state state;
    bool ready;   /* epoll has reported it */
    bool fresh;   /* the socket was opened for this batch, and has received nothing yet */
    bool dirty;   /* an old exchange may still affect the session */
    bool writing; /* epoll also watches for the socket becoming writable */
    int tries;
    int stamp;    /* number of the request, in the order in which the batch sent them */
    int64_t sent;
    int64_t again;    /* when to ask again */
    int64_t interval; /* from `sent` to `again` */
    char address[STRING_SIZE]; /* of the source, once it is known */
};

/* ---- Batches ---- */

/* How much of one report has been read. */
struct progress {
    bool list;
    bool probing; /* it is not known yet whether it is a list */
    bool done;
    int next;     /* the next record to ask for */
    int left;     /* records that have not arrived yet */
    int room;     /* number of records that have places, from the ask's `first` on */
    int shape;    /* of the last record, to try first for the next */
    int kept;     /* an earlier complete reading: its first place, or -1 */
    int kept_records;
};

enum stage { TO_ASK, ASKED, ANSWERED };

/* What the lists of a batch have in common: see batch.c. */
struct roster {
    int number; /* of sources; -1 while unknown */
    enum stage counting, opening, closing;
    int guard;     /* the ask whose last record is read first; -1: there is no open list */
    uint64_t last, last_again; /* identity of the last source, at opening and closing */
    int opened, closed;   /* the stamps of these two */
    int earliest, latest; /* the stamps of all other requests; 0: none */
    bool differ;          /* the lists are not about the same sources */
    uint64_t seen, seen_before; /* sum over all identities, in this round and the previous one */
    bool compared;              /* the previous round was complete */
    int rounds; /* how often the lists were begun again */
    int gone;   /* how often because a source did not exist */
    uint64_t *identities; /* of each source; 0: not read yet */
    int room;             /* number of identities there is memory for */
};

struct shim_client {
    shim_batch batch; /* the part that the caller sees */
    shim_loop *loop;
    shim_client *next, *last;   /* in the loop */
    shim_client *next_ready;    /* in the loop's list of clients to step */
    shim_client *next_finished; /* in the loop's list of clients that are done */
    bool ready, finished, running;
    char address[128]; /* the longest path of a Unix socket has 107 characters */
    bool ordered;      /* chronyd serves requests in the order of sending: a Unix socket */

    struct slot *slots;
    int kept;  /* the caller's limit, at most KEPT */
    int open;  /* sockets */
    int busy;  /* slots that are not idle */
    int stuck; /* slots with a request that is not sent yet */
    int64_t idle_since;
    int batches;

    int64_t variation, best; /* RFC 6298's RTTVAR, and the shortest round trip; or 0 */

    shim_ask *asks; /* memory for `ask_room` of them */
    struct progress *progress;
    int ask_room;
    char *bytes;
    size_t used; /* of them */
    shim_place *places;
    int placed; /* of them */

    int unfinished; /* asks */
    int64_t deadline, patience; /* the longest first wait for an answer */
    int64_t due; /* when to step at the latest */
    int stamp;   /* of the last request */
    bool reached;  /* chronyd accepted a request */
    bool full;   /* no further socket could be opened */
    bool repeated; /* a request is in several slots */
    bool forked;   /* in a forked child: the batch was running in the parent */
    int error;     /* why chronyd is not there; 0 once it has answered */
    int system;
    int known;     /* the number of sources when last read; -1: never */
    struct roster roster;
};

struct shim_loop {
    pthread_mutex_t lock;
    shim_loop *next, *last; /* in the list of all */
    int references; /* one of the caller, and one of each client */
    int epoll;      /* -1 until the first socket is opened */
    int64_t due;    /* no client is due earlier */
    int done;       /* clients in `finished` */
    shim_client *clients, *ready;
    shim_client *finished, *finished_last;
    int64_t tags;         /* given to clients so far */
    unsigned sessions;    /* created so far */
    struct slot *unused;  /* slots without a socket, for new clients */
    struct slot **spares; /* clean sessions of ended clients, on UDP sockets */
    int spared;           /* number of them */
    int most_spared;
    int spare_room; /* number of them there is memory for */
    bool abandoned; /* the caller has let go of it */
    bool over;      /* the process is ending, and everything is closed */
};

/* ---- library.c ---- */

extern struct libchrony chrony;
void take_text(void);
void drop_text(void);

/* ---- records.c ---- */

#define NO_ADDRESS 1 /* of a reference clock */

/* The source that a record belongs to, as hashes. */
struct identity {
    uint64_t address; /* of its address, or NO_ADDRESS; never 0 */
    uint64_t whole;   /* of its address and reference ID */
};

void copy_string(char *to, const char *text);

/* The source of the record that `session` holds; `likely` is the shape to try first, or -1. */
struct identity read_identity(chrony_session *session, int likely);

/* Copy the address in the session's record to `to`, in the form of a record's strings. */
void read_address(char *to, chrony_session *session);

/* Copy the record that `session` holds to the client's bytes, after `address` if the ask has
   SHIM_JOINED. Returns 0 or an error. */
int copy_record(shim_client *client, int ask, int record, chrony_session *session,
                const char *address);

void lock_shapes(void);
void unlock_shapes(void);

/* ---- sockets.c ---- */

/* Open the slot's socket and a session on it, if the budget allows it. Returns 0, or an error
   with errno set. */
int open_slot(struct slot *slot);
void close_slot(struct slot *slot);
/* Return a slot of the client without a socket, a new one if necessary; NULL: no memory. */
struct slot *empty_slot(shim_client *client);
/* Replace the session of a slot, and with it any unfinished exchange. */
int renew_session(struct slot *slot);
/* Set whether epoll also watches for the socket becoming writable. */
void watch_writing(struct slot *slot, bool writing);
void close_link(struct link *link);
/* Close all spare sessions but `left` of them. */
void close_spares(shim_loop *loop, int left);
/* An event has come for a spare session: stop watching its socket. */
void unwatch_spare(const struct slot *slot, int epoll);
/* Free the slots of a loop that has no clients. */
void free_slots(shim_loop *loop);
void close_client(shim_client *client);
/* Move all links but one to `to`, for the caller to close; returns how many. */
int take_further_links(shim_client *client, struct link *to, int room);
/* In a forked child: close the parent's sockets without affecting the parent. */
void leave_client_to_parent(shim_client *client);

/* ---- exchange.c ---- */

void set_state(struct slot *slot, enum state state);
/* Free the slot for another request, even if the current one may still be answered. */
void release(struct slot *slot);
/* Free the other slots that have the same request. */
void release_twins(struct slot *slot);
struct slot *vacant(shim_client *client, int wanted, bool far);
/* Send the request that the slot has just been given. */
void begin(struct slot *slot, int64_t now);
/* Send the slot's request, on a new socket if the current one cannot be used. */
void send_request(struct slot *slot, int64_t now);
void receive_all(shim_client *client, int64_t now);
/* Make receive_all() look for answers at all sockets. */
void look_again(shim_client *client);
void repeat_overdue(shim_client *client, int64_t now);
/* At the deadline: set the client's error if its chronyd was stopped since it was asked. */
void note_absence(shim_client *client);
/* Move the deadline and all repetitions by `pause`. */
void postpone(shim_client *client, int64_t pause);
/* When the client must be stepped at the latest. */
int64_t next_due(const shim_client *client);

/* ---- batch.c ---- */

bool has(const shim_ask *ask, int flag);
/* Move the client's batch on as far as it goes without waiting. */
void step_batch(shim_client *client, int64_t now);
/* Take the answer that the slot's session holds. */
void take_answer(struct slot *slot, int64_t now);
/* libchrony or chronyd refused the slot's request. */
void take_refusal(struct slot *slot, int error);
/* The report is a list, since libchrony asked chronyd for its number of records. */
void take_list(struct slot *slot);
void fail_all(shim_client *client, int error, int system);
/* Ask again for everything that has not arrived. */
void begin_again(shim_client *client);

/* ---- loop.c ---- */

int64_t clock_now(void);
int open_epoll(shim_loop *loop);
void lock_loop(shim_loop *loop);
void unlock_loop(shim_loop *loop);
void lock_loops(void); /* and each of them */
void unlock_loops(void);
void leave_loops_to_parent(void);
/* Give up a reference: the loop ends with the last. */
void leave_loop(shim_loop *loop);
void add_client(shim_client *client);
void remove_client(shim_client *client);
/* Step, and return what shim_step() returns. The caller holds the loop's lock. */
int64_t step_now(shim_loop *loop);

/* Step the client at the next step of the loop. */
void make_ready(shim_client *client);
/* Add the client's batch to those that shim_finished() returns, or remove it. */
void finish(shim_client *client);
void remove_finished(shim_client *client);
/* Close all sockets but one of the client that has been idle longest. False: there is none. */
bool close_idlest(shim_loop *own);
