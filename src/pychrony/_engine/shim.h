/*
 * The boundary between Python and libchrony. The compiler and CFFI's cdef() both read this file,
 * so it holds declarations only. C asks, waits and copies; what the values mean is Python's.
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
    SHIM_JOINED = 1,  /* put the address of the same source in front of each record */
    SHIM_NAMED = 2,   /* append the names of constants and flags to each record */
    SHIM_SOURCES = 4, /* there is a record for each source, and so of each such report as many */
    SHIM_JOINS = 8    /* the report that the addresses are taken from */
};

/* Errors of ours, beside libchrony's 1 to 14. */
enum {
    SHIM_TIMEOUT = 100,     /* no answer in time */
    SHIM_UNREACHABLE = 101, /* a socket could not be opened or used: see `system` */
    SHIM_ABSURD = 102       /* a number of records or fields that cannot be true: see `records` */
};

/* One report to ask for, and how that went. */
typedef struct {
    int report;  /* its place in libchrony's list */
    int flags;
    int records; /* how many there are; -1 while unknown */
    int first;   /* the place of the first of them */
    int room;    /* how many places there are for them */
    int error;   /* 0, a code of libchrony's, or one of ours */
    int system;  /* errno, where a system call failed */
    int left;    /* records that have not come yet */
    int next;    /* the next record to ask for; -1: their number; -2: that has been asked */
    int round;   /* how often the list changed while it was read */
    int single;  /* not a list */
    int shape;   /* of the last record, to try first for the next */
} shim_ask;

/* ---- What came back ---- */

/* Where a record lies in the batch's bytes. Its fields stand there in order: 8 bytes for a number,
   16 for a time (seconds, nanoseconds), 48 for a string (its length in the first). */
typedef struct {
    int shape; /* -1: there is no such record, as for the authentication of a reference clock */
    unsigned int offset;
    unsigned int size;
} shim_place;

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

/* ---- The connection ---- */

/* Sockets and sessions to one chronyd, kept between batches. One thread at a time. */
typedef struct shim_client shim_client;

/* A client that will use at most `sessions` sockets (up to 16). NULL without memory, which is an
   error when it is opened. */
shim_client *shim_new(int sessions);

/* Open a first socket to `address` (empty: where libchrony finds chronyd first). Returns 0, or an
   error with errno in `*system`. */
int shim_open(shim_client *client, const char *address, int *system);

/* The address in use, in libchrony's notation: of a Unix socket if it begins with a slash. */
const char *shim_address(const shim_client *client);

/* Close everything; in a forked child, without harm to the parent. */
void shim_close(shim_client *client);

/* ---- A batch: one or more whole reports, over one deadline ---- */

typedef struct {
    shim_client *client;
    char *bytes; /* the caller's, like `places` and `asks` */
    size_t size;
    shim_place *places;
    int capacity;
    shim_ask *asks;
    int asked;
    size_t used;          /* of `bytes` */
    int placed;           /* of `places` */
    size_t wanted_size;   /* what SHIM_ROOM asks for */
    int wanted_capacity;
    int64_t deadline; /* on the monotonic clock, in nanoseconds */
    int64_t patience; /* before a request is repeated for the first time */
    int answers;      /* from chronyd, good or bad */
    int full;         /* no further socket could be opened */
} shim_batch;

enum {
    SHIM_DONE = 0,  /* each ask has its records or its error */
    SHIM_ROOM = 1,  /* `bytes` or `places` are too small: give larger ones, go on with shim_run() */
    SHIM_PAUSE = 2  /* a signal arrived, or might have: let handlers run, go on with shim_run() */
};

/* Ask for `asked` reports, and drive the batch as shim_run() does. `timeout` is in nanoseconds;
   negative: none. */
int shim_start(shim_batch *batch, shim_ask *asks, int asked, int64_t timeout);

/* Drive the batch: step, wait for chronyd, step again. Returns one of the above. */
int shim_run(shim_batch *batch);

/* Give the batch up before it is done. */
void shim_stop(shim_batch *batch);
