/*
 * The boundary between Python and libchrony. The compiler and CFFI's cdef() both read this file,
 * so it holds declarations only. C asks, waits and copies; what the values mean is Python's.
 * How a batch runs is told at the top of batch.c; who may call what from which thread, in engine.h.
 */

/* ---- The library ---- */

/* Load libchrony from `path` (a path, or a name for the dynamic loader), once and for ever.
   Returns 0, or -1 with the loader's words in `reason`. */
int shim_load(const char *path, char *reason, size_t size);

/* Path of the loaded library; NULL while there is none. */
const char *shim_path(void);

/* libchrony's name of a report; NULL where its list ends. Valid for ever. */
const char *shim_report(int report);

/* libchrony's text for an error code. Valid for ever. */
const char *shim_error(int code);

/* ---- What is asked ---- */

enum {
    SHIM_SOURCES = 1,   /* one record for each source: all such lists have the same length */
    SHIM_ADDRESSED = 2, /* asked by the source's address, which "sourcestats" must tell first */
    SHIM_JOINED = 4,    /* put that address in front of each record */
    SHIM_NAMED = 8,     /* append the names of constants and flags to each record */
    SHIM_ADDRESSES = 16 /* this is "sourcestats" */
};

/* Errors of ours, beside libchrony's 1 to 14. */
enum {
    SHIM_UNOPENED = -1,     /* libchrony's open_socket() failed, with its own -1: see `system` */
    SHIM_TIMEOUT = 100,     /* no answer in time */
    SHIM_UNREACHABLE = 101, /* a socket could not be prepared or used: see `system` */
    SHIM_ABSURD = 102,      /* a number of records or fields that cannot be true: see `records` */
    SHIM_CHANGING = 103     /* the sources changed whenever the list was read: see `records` */
};

/* One report to ask for, and the result. The caller sets the first two. */
typedef struct {
    int report;  /* its place in libchrony's list */
    int flags;
    int error;   /* 0, a code of libchrony's, or one of ours */
    int system;  /* errno, where a system call failed */
    int records; /* how many there are */
    int first;   /* where the first of them is among the batch's places */
} shim_ask;

/* ---- The result ---- */

/* Where a record lies in the batch's bytes. Its fields stand there in order: 8 bytes for a number,
   16 for a time (seconds, nanoseconds), 48 for a string (its length in the first). */
typedef struct {
    int shape; /* -1: there is no such record, as for the authentication of a reference clock */
    unsigned int offset;
    unsigned int size;
} shim_place;

/* One or more whole reports, read within one deadline. All of it is the client's memory, and stays
   as it is from the end of the batch to the next shim_start() on the client. */
typedef struct {
    int64_t tag; /* the caller's own */
    const shim_ask *asks;
    int asked;
    int placed; /* of `places` */
    const shim_place *places;
    const char *bytes;
    size_t used; /* of `bytes` */
} shim_batch;

typedef struct {
    char name[64];
    int type;
    int content;
} shim_field;

/* The fields of one kind of record. */
typedef struct {
    int count;
    shim_field fields[100];
} shim_shape;

/* The shape of that number; it never changes. NULL if there is none. */
const shim_shape *shim_get_shape(int shape);

/* ---- Loops: what is waited for ---- */

/* Any number of clients that one thread drives, and the epoll descriptor that all their sockets
   are in. A blocking connection has a loop for each client, many daemons or an event loop share
   one. */
typedef struct shim_loop shim_loop;

/* A loop without clients; NULL without memory. */
shim_loop *shim_loop_new(void);

/* Keep the sessions of clients that have ended for those to come, up to 64 of them with their
   descriptors: a new session costs more than all else that a single question takes. */
void shim_spare_sessions(shim_loop *loop);

/* Let go of the loop. It ends with the last of its clients. */
void shim_loop_free(shim_loop *loop);

/* The descriptor that is readable when a step has something to take in; -1 before the first
   shim_open(). It is the loop's: it must not be closed, and a forked child gets another one. */
int shim_loop_fd(shim_loop *loop);

/* Move all batches on as far as they go without waiting. Returns in how many nanoseconds the next
   step is due, even if the descriptor is not readable until then; negative: never. */
int64_t shim_step(shim_loop *loop);

/* Step and wait, in turns, until a batch is done, or for `longest` nanoseconds, or until a signal
   arrives. Returns how many batches are done. */
int shim_run(shim_loop *loop, int64_t longest);

/* Leave a pause of so many nanoseconds, in which nobody stepped, out of all deadlines. */
void shim_postpone(shim_loop *loop, int64_t pause);

/* The next batch that is done and was not returned before; NULL if there is none. */
shim_batch *shim_finished(shim_loop *loop);

/* ---- Clients: what asks one chronyd ---- */

/* The sockets and sessions to one chronyd, kept between batches. */
typedef struct shim_client shim_client;

/* A client in the loop; NULL without memory, which is an error when it is opened. It keeps at most
   `kept` sockets (up to 16) between batches, and opens no more on the same machine; to a chronyd
   far away it opens more for a batch, one for each request that can be under way. */
shim_client *shim_client_new(shim_loop *loop, int kept);

/* Close everything, and give up the batch under way. */
void shim_client_free(shim_client *client);

/* Open a first socket to `address` (empty: where libchrony finds chronyd first). Returns 0, or an
   error with errno in `*system`. */
int shim_open(shim_client *client, const char *address, int *system);

/* The address in use, in libchrony's notation: of a Unix socket if it begins with a slash. */
const char *shim_address(const shim_client *client);

/* The client's batch, which is always at the same place. */
shim_batch *shim_batch_of(shim_client *client);

/* Begin a batch with a copy of `asks`; the next step sends the first requests. `timeout` is in
   nanoseconds; negative: none. A batch under way is given up. Returns 0, or an error. */
int shim_start(shim_client *client, const shim_ask *asks, int asked, int64_t timeout);

/* Give up the batch under way, if there is one; it does not come from shim_finished() any more. */
void shim_stop(shim_client *client);

/* Close all sockets of this process, for good: it ends, and nothing else will. */
void shim_close_all(void);
