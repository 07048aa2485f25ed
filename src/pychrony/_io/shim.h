/*
 * The boundary between Python and libchrony. The compiler and CFFI's cdef() both read this file,
 * so it holds declarations only. C asks, waits and copies; what the values mean is Python's.
 * How a batch runs is told at the top of batch.c, and which locks guard what, in loop.c.
 */

/* ---- The library ---- */

/* Load libchrony from `path` (a path, or a name for the dynamic loader), once for the process.
   Returns 0, or -1 with the loader's message in `reason`. */
int shim_load(const char *path, char *reason, size_t size);

/* Whether the program has more rights than the user who started it (set-user-ID, set-group-ID, file
   capabilities), as the dynamic loader sees it. */
int shim_is_secure(void);

/* Path of the loaded library; NULL while there is none. */
const char *shim_path(void);

/* libchrony's name of a report; NULL after the last one. Valid for ever. */
const char *shim_report(int report);

/* libchrony's text for an error code. Valid for ever. */
const char *shim_error(int code);

/* ---- What is asked ---- */

enum {
    SHIM_SOURCES = 1,   /* a list: one record for each source, so all lists are equally long */
    SHIM_ADDRESSED = 2, /* asked for by the source's address, which "sourcestats" has */
    SHIM_JOINED = 4,    /* put that address in front of each record */
    SHIM_NAMED = 8,     /* append the names of constants and flags to each record */
    SHIM_ADDRESSES = 16 /* this is "sourcestats" */
};

/* The shim's own errors, in addition to libchrony's 1 to 14. */
enum {
    SHIM_UNOPENED = -1,     /* libchrony's open_socket() failed, with its own -1: see `system` */
    SHIM_TIMEOUT = 100,     /* no answer in time */
    SHIM_UNREACHABLE = 101, /* a socket could not be prepared or used: see `system` */
    SHIM_ABSURD = 102,      /* a number of records or fields that cannot be true: see `records` */
    SHIM_CHANGING = 103     /* the sources kept changing while the lists were read: see `records` */
};

/* Where a record lies in the batch's bytes. Its fields stand there in order: 8 bytes for a number,
   16 for a time (seconds, nanoseconds), 48 for a string (its length in the first). */
typedef struct {
    int shape; /* -1: there is no such record, as for the authentication of a reference clock, or
                  after an error */
    unsigned int offset;
    unsigned int size; /* an earlier record may have left more than this one needs */
} shim_place;

/* One report to ask for, and the result. The caller sets the first two. */
typedef struct {
    int report;  /* its place in libchrony's list */
    int flags;
    int error;   /* 0, libchrony's code, or the shim's */
    int system;  /* errno, where a system call failed */
    int records; /* how many there are */
    shim_place *places; /* of the records; the last one, which arrives first, is the first here */
} shim_ask;

enum { SHIM_ASKS = 16 }; /* the most reports that can be asked for together */

/* ---- The result ---- */

/* One or more whole reports, read within one deadline. The memory is the client's, and stays
   unchanged from the end of the batch until the next shim_start() on the client. */
typedef struct {
    int64_t tag; /* of the client; no other client of the loop ever has the same */
    int running; /* whether the batch has not ended yet */
    shim_ask asks[SHIM_ASKS];
    int moved; /* how often `bytes` or places have moved, for callers that keep a pointer */
    const char *bytes;
    size_t size; /* of `bytes` */
    int answered; /* whether chronyd has answered a request of this batch, even before its end */
    int64_t round_trip; /* RFC 6298's SRTT, in nanoseconds, over all batches; 0: not known */
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

/* The shape that a place has; it never changes. */
const shim_shape *shim_get_shape(int shape);

/* ---- Loops ---- */

/* Any number of clients that one thread drives, and the epoll descriptor that watches their
   sockets. A blocking connection has a loop for each client. All clients of an asyncio connection,
   or of a call that asks many daemons, share one. */
typedef struct shim_loop shim_loop;

/* Make a loop without clients. NULL without memory. */
shim_loop *shim_loop_new(void);

/* Give up the loop, which ends with the last of its clients. */
void shim_loop_free(shim_loop *loop);

/* The descriptor that is readable when an answer has arrived; -1 before the first shim_open(). The
   loop owns it: the caller must not close it, and a forked child gets another one. */
int shim_loop_fd(shim_loop *loop);

/* Move all batches on, and wait in between, until one is done, for at most `longest` nanoseconds
   (0: without waiting), or until a signal arrives. Returns the nanoseconds until this is due again
   even if the descriptor does not become readable: 0 as long as shim_finished() has a batch to
   return, INT64_MAX if never. */
int64_t shim_run(shim_loop *loop, int64_t longest);

/* Move all deadlines by a pause (in nanoseconds) in which nobody called shim_run(). */
void shim_postpone(shim_loop *loop, int64_t pause);

/* The tag of the next batch that is done and has not been returned yet; -1 if there is none. */
int64_t shim_finished(shim_loop *loop);

/* ---- Clients ---- */

/* Sockets and sessions for one chronyd, kept between batches. */
typedef struct shim_client shim_client;

/* Make a client; NULL without memory, which shim_open() reports. */
shim_client *shim_client_new(void);

/* Close everything, and give up the running batch. */
void shim_client_free(shim_client *client);

/* Add the client to the loop, and open a first socket to `address`, in libchrony's notation: a Unix
   socket if it begins with a slash. It keeps at most `kept` sockets (up to 16) between batches, and
   opens no more on the same machine. For a distant chronyd it opens more during a batch: one for
   each request that can be in flight. Returns 0, or an error with its errno in `system`. Call this
   once: after an error, a client can only be freed. */
int shim_open(shim_client *client, shim_loop *loop, const char *address, int kept, int *system);

/* The client's batch, which is always at the same place. */
shim_batch *shim_batch_of(shim_client *client);

/* Begin a batch with a copy of `asks`, and send the first requests. `timeout` is in nanoseconds;
   negative: none. A running batch is given up. Then do as shim_run() does, unless `longest` is 0: a
   second call from Python would cost more than either. Returns what shim_run() returns, or an error
   with its sign changed. */
int64_t shim_start(shim_client *client, const shim_ask *asks, int asked, int64_t timeout,
                   int64_t longest);

/* Give up the running batch, if there is one; shim_finished() will not return it. */
void shim_stop(shim_client *client);

/* Close all sockets of this process for good: for a process that ends without destructors. */
void shim_close_all(void);
