/*
 * Second layer (records.c): records, which are copied from a libchrony session into a store, and
 * their shapes.
 */
#pragma once
#include "libchrony.h"

enum { STRING_SIZE = 48 }; /* an IPv6 address has at most 45 characters */

/* The memory for the records of a batch. It grows as records arrive. */
struct store {
    char *bytes;
    size_t used, size;
    int moved; /* how often */
};

/* Copy the record that `session` holds to the store, and note where at `place`, which may have
   memory from an earlier record. `flags` are the ask's; with SHIM_JOINED, `address` comes first.
   `shape` is the shape to try first, or -1, and is set to the record's. Returns 0 or an error. */
int copy_record(struct store *store, shim_place *place, chrony_session *session, int flags,
                const char *address, int *shape);

/* The source that a record is about. */
struct source {
    char address[STRING_SIZE]; /* in the form of a record's strings; empty: a reference clock */
    uint64_t id;               /* its reference ID, if the record has it */
};

/* The source of the record that `session` holds. */
void read_source(struct source *source, chrony_session *session);

/* The address in a record of the store, in the form of its strings; empty if there is none. */
const char *find_address(const struct store *store, const shim_place *place);
