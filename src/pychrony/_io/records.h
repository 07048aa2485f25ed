/*
 * Second layer (records.c): records, which are copied from a libchrony session into a store, and
 * their shapes.
 */
#pragma once
#include "libchrony.h"

enum { STRING_SIZE = 48 }; /* an IPv6 address has at most 45 characters */

/* The memory for the records of a batch, and for their places. It grows as records arrive. */
struct store {
    char *bytes;
    size_t used, size;
    shim_place *places;
    int placed, room;
    int moved; /* how often either has moved */
};

/* Add `number` places without records. Returns the first, or -1 without memory. */
int add_places(struct store *store, int number);

/* Copy the record that `session` holds to the store, and note where at `place`, which may have
   memory from an earlier record. `flags` are the ask's; with SHIM_JOINED, `address` comes first.
   `shape` is the shape to try first, or -1, and is set to the record's. Returns 0 or an error. */
int copy_record(struct store *store, shim_place *place, chrony_session *session, int flags,
                const char *address, int *shape);

#define NO_ADDRESS 1 /* of a reference clock */

/* The source that a record belongs to, as hashes: thousands of them are compared with those of
   other lists. */
struct identity {
    uint64_t address; /* of its address, or NO_ADDRESS; never 0 */
    uint64_t whole;   /* of its address and reference ID */
};

/* The source of the record that `session` holds; `likely` is the shape to try first, or -1. */
struct identity read_identity(chrony_session *session, int likely);

/* Copy the address in the session's record to `to`, in the form of a record's strings. */
void read_address(char *to, chrony_session *session);

/* Adding a shape takes this lock; so does fork(). */
void lock_shapes(void);
void unlock_shapes(void);
