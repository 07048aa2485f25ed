/*
 * What the engine's C files share: its structures, the locks that guard them, and what each file
 * offers to the others. batch.c tells how a batch runs.
 *
 * Locks. Nothing waits for chronyd under any of them. In the order in which they are taken:
 *
 *   load_lock    (library.c)  the table of libchrony's functions, until it is complete; it never
 *                             changes then, and whoever uses it has gone through shim_load().
 *   loops_lock   (loop.c)     the list of all loops. Taken to add or remove one, to fork, to exit,
 *                             and, if it is free, to close idle sockets of other clients.
 *   loop->lock   (loop.c)     the loop, its clients, their batches and sockets. Taken by each
 *                             function of shim.h for as long as it runs, but never while it waits
 *                             for chronyd. Sockets are opened and closed under it: it is the lock
 *                             of one caller, and whoever else wants it only tries (loops_lock's
 *                             holders, but for fork and exit, which must wait).
 *   text_lock    (library.c)  the one buffer in which libchrony formats all addresses. Held around
 *                             each call that writes to it and the copying of what it wrote.
 *   shapes_lock  (records.c)  adding a shape. Reading takes no lock: a shape is complete before
 *                             the number of shapes, an atomic, counts it.
 *
 * A finished batch is read by its owner without a lock: only shim_start() on the same client
 * changes it. The budget of sockets is one atomic number. So the engine does not rely on the GIL.
 *
 * fork() takes all locks first, so that the child finds nothing half done (library.c).
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
    SPARES = 64,         /* sessions that a loop keeps for clients to come */
    KEPT = 16            /* sockets of a client, at most, between batches and on the same machine */
};

/* ---- Sockets ---- */

/* A socket and a session on it; closed if `fd` is negative. */
struct link {
    int fd;
    chrony_session *session;
};

enum state {
    IDLE,    /* nothing to do */
    BLOCKED, /* a request is to be sent; chronyd's queue is full */
    WAITING, /* a request is out */
    LATER    /* chronyd is away; try again when it is time */
};

/* What a request is for. */
enum kind {
    NUMBER, /* the number of records */
    RECORD, /* a record of a report */
    ADDRESS, /* the sourcestats of a source, whose address the record is then asked by */
    CLOSING /* the last record again: see batch.c */
};

struct item {
    enum kind kind;
    int ask;
    int record;
};

/* What has one request in flight at most. A request that is repeated is in several slots. */
struct slot {
    struct link link;
    shim_client *client;
    struct slot *next;
    struct item item;
    enum state state;
    bool ready;   /* epoll told of it */
    bool fresh;   /* the socket was opened for this batch, and nothing has come */
    bool dirty;   /* an answer, or what is left of it, may yet surface in the session */
    bool writing; /* epoll waits until the socket can be written to */
    int tries;
    int stamp;    /* when the request was sent, in the order of all requests of the batch */
    int64_t sent;
    int64_t again;    /* when to ask again */
    int64_t interval; /* from `sent` to `again` */
    char address[STRING_SIZE]; /* of the source, once it is known */
};

/* ---- Batches ---- */

/* How far the reading of one report is. */
struct progress {
    bool list;
    bool probing; /* whether it is a list is to be found out */
    bool done;
    int next;     /* the next record to ask for */
    int left;     /* records that have not come yet */
    int room;     /* for so many records there are places, from the ask's `first` on */
    int shape;    /* of the last record, to try first for the next */
    int kept;     /* an earlier complete reading: its first place, or -1 */
    int kept_records;
};

enum stage { TO_ASK, ASKED, ANSWERED };

/* What the lists of a batch have in common: see batch.c. */
struct roster {
    int number; /* of sources; -1 while unknown */
    enum stage counting, opening, closing;
    int guard;     /* the ask that has the last record read first; -1: there is no open list */
    uint64_t last, last_again; /* the identity of the last source, at the opening and the closing */
    int opened, closed;   /* the stamps of these readings */
    int earliest, latest; /* the stamps of what was read besides; 0: nothing */
    bool differ;          /* the lists are not of the same sources */
    uint64_t seen, seen_before; /* a sum over all identities, in this round and the last */
    bool compared;              /* the last round was complete */
    int rounds; /* how often the lists were begun again */
    int gone;   /* how often since a source was missing */
    uint64_t *identities; /* of the sources, as far as they were read; 0: not yet */
    int room;             /* for so many of them */
};

struct shim_client {
    shim_batch batch; /* what the caller sees of it */
    shim_loop *loop;
    shim_client *next, *last;   /* in the loop */
    shim_client *next_ready;    /* in the loop's list of those to step */
    shim_client *next_finished; /* in the loop's list of those that are done */
    bool ready, finished, running;
    char address[128]; /* the longest path of a Unix socket has 107 characters */
    bool ordered;      /* chronyd takes requests in the order they were sent in: a Unix socket */

    struct slot *slots;
    int kept;  /* the caller's own limit of what KEPT limits */
    int open;  /* sockets */
    int busy;  /* slots that are not idle */
    int stuck; /* slots with a request that is not sent */
    int64_t idle_since;
    int batches;

    int64_t round_trip, variation, best; /* RFC 6298's SRTT and RTTVAR, and the shortest; or 0 */

    shim_ask *asks; /* as many as `ask_room`; the batch's own */
    struct progress *progress;
    int ask_room;
    char *bytes;
    size_t size;
    shim_place *places;
    int capacity;

    int unfinished; /* asks */
    int64_t deadline, patience; /* how long to wait for an answer at first, at most */
    int64_t due; /* when to step at the latest */
    int stamp;   /* of the last request */
    bool reached;  /* chronyd was there */
    bool answered; /* and has answered */
    bool full;   /* no further socket could be opened */
    bool repeated; /* a request is in several slots */
    bool forked;   /* in a child whose parent had this batch under way */
    int error;     /* why chronyd is away; 0 when it has answered since */
    int system;
    int known;     /* the number of sources when last read; -1: never */
    struct roster roster;
};

struct shim_loop {
    pthread_mutex_t lock;
    shim_loop *next, *last; /* in the list of all */
    int references; /* the caller's, and one of each client */
    int epoll;      /* -1 until the first socket is opened */
    unsigned freed; /* how many clients: an event may be of one */
    int64_t due;    /* no client is due before */
    int done;       /* clients in `finished` */
    shim_client *clients, *ready;
    shim_client *finished, *finished_last;
    struct link spares[SPARES]; /* clean sessions of clients that have ended; UDP sockets */
    int spared;
    bool sparing;   /* whether it keeps any */
    bool abandoned; /* the caller has let go of it */
    bool over;      /* the process ends, and all is closed */
};

/* ---- library.c ---- */

extern struct libchrony chrony;
void take_text(void);
void drop_text(void);

/* ---- records.c ---- */

#define NO_ADDRESS 1 /* of a reference clock */

/* Whose a record is. */
struct identity {
    uint64_t address; /* of its address, or NO_ADDRESS; never 0 */
    uint64_t whole;   /* of its address and reference ID */
};

void copy_string(char *to, const char *text);

/* Whose the record is that `session` holds; `likely` is the shape to try first, or -1. */
struct identity read_identity(chrony_session *session, int likely);

/* Copy the address that is in the record of `session` to `to`, as a string of a record. */
void read_address(char *to, chrony_session *session);

/* Copy the record that `session` holds to the client's bytes, behind `address` if it is to have
   one. Returns 0 or an error. */
int copy_record(shim_client *client, int ask, int record, chrony_session *session,
                const char *address);

void lock_shapes(void);
void unlock_shapes(void);

/* ---- sockets.c ---- */

/* Open the slot's socket and a session on it, if that is within the budget. Returns 0, or an error
   with errno set. */
int open_slot(struct slot *slot);
void close_slot(struct slot *slot);
/* A slot without a socket, which may be a new one; NULL without memory. */
struct slot *spare_slot(shim_client *client);
/* Forget what the session of a slot has under way. */
int renew_session(struct slot *slot);
/* Have epoll tell also when the socket can be written to, or no longer. */
void watch_writing(struct slot *slot, bool writing);
void close_link(struct link *link);
void close_spares(shim_loop *loop);
void close_client(shim_client *client);
/* Move all links but one to `to`, for the caller to close; returns how many. */
int take_further_links(shim_client *client, struct link *to, int room);
/* In a forked child: close what is the parent's, without harm to the parent. */
void leave_client_to_parent(shim_client *client);

/* ---- exchange.c ---- */

void set_state(struct slot *slot, enum state state);
/* Let the slot do something else, though what it has asked may still be answered. */
void release(struct slot *slot);
/* Let those do something else that have asked for the same. */
void release_twins(struct slot *slot);
struct slot *vacant(shim_client *client, int wanted, bool far);
/* Send the request that the slot has just been given. */
void begin(struct slot *slot, int64_t now);
/* Send the slot's request, on a new socket if the one at hand is of no use. */
void send_request(struct slot *slot, int64_t now);
void receive_all(shim_client *client, int64_t now);
/* Have receive_all() look for answers at all sockets. */
void look_again(shim_client *client);
void repeat_overdue(shim_client *client, int64_t now);
/* Have everything due later. */
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
/* A report that libchrony has to ask chronyd for the number of is a list. */
void take_list(struct slot *slot);
void fail_all(shim_client *client, int error, int system);
/* Ask for everything anew that is not there yet. */
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
/* Step the client at the next step of the loop. */
void make_ready(shim_client *client);
/* The client's batch is done, for shim_finished() to return; or not, after all. */
void finish(shim_client *client);
void remove_finished(shim_client *client);
/* Close the further sockets of the client that has been idle longest. False: there is none. */
bool close_idlest(shim_loop *own);
