#include "records.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FIELDS = (int)(sizeof((shim_shape *)0)->fields / sizeof(shim_field)) };
enum { MAX_SHAPES = 64 }; /* libchrony has two dozen */
enum { NAMES_SIZE = 4096 }; /* for the names in a record; libchrony needs a tenth */

static shim_shape shapes[MAX_SHAPES];
static int shapes_known; /* shapes below this number are complete and never change */

const shim_shape *shim_get_shape(int shape) { return &shapes[shape]; }

/* ---- Shapes ---- */

static unsigned int width(int type)
{
    static const unsigned int widths[] = {
        [UINTEGER] = 8, [INTEGER] = 8, [FLOAT] = 8, [TIMESPEC] = 16, [STRING] = STRING_SIZE};
    return type >= 0 && type <= STRING ? widths[type] : 0;
}

static bool has_shape(chrony_session *session, int joined, const shim_shape *shape)
{
    if (shape->count != chrony.get_record_number_fields(session) + joined)
        return false;
    for (int i = joined; i < shape->count; i++) {
        const shim_field *field = &shape->fields[i];
        const char *name = chrony.get_field_name(session, i - joined);
        if ((int)chrony.get_field_type(session, i - joined) != field->type || name == NULL ||
            strncmp(name, field->name, sizeof(field->name) - 1) != 0)
            return false;
    }
    return joined == 0 || strcmp(shape->fields[0].name, "address") == 0;
}

static void set_field(shim_field *field, const char *name, int type, int content)
{
    snprintf(field->name, sizeof(field->name), "%s", name != NULL ? name : "");
    field->type = type;
    field->content = content;
}

static void describe(chrony_session *session, int joined, shim_shape *shape)
{
    shape->count = chrony.get_record_number_fields(session) + joined;
    if (joined)
        set_field(&shape->fields[0], "address", STRING, CONTENT_ADDRESS);
    for (int i = joined; i < shape->count; i++) {
        int type = (int)chrony.get_field_type(session, i - joined);
        /* In a record without the address, libchrony gives the field no content; shapes are
           for all records. */
        int content = type == STRING ? CONTENT_ADDRESS
                                     : (int)chrony.get_field_content(session, i - joined);
        set_field(&shape->fields[i], chrony.get_field_name(session, i - joined), type, content);
    }
}

static int add_shape(chrony_session *session, int joined)
{
    int number = shapes_known;
    if (chrony.get_record_number_fields(session) + joined > MAX_FIELDS || number == MAX_SHAPES)
        return -1;
    describe(session, joined, &shapes[number]);
    shapes_known = number + 1;
    return number;
}

/* The number of the shape of the record that `session` holds; -1 if it is beyond our tables. */
static int find_shape(chrony_session *session, int joined, int likely)
{
    if (likely >= 0 && has_shape(session, joined, &shapes[likely]))
        return likely;
    int found = 0;
    lock_library();
    while (found < shapes_known && !has_shape(session, joined, &shapes[found]))
        found++;
    if (found == shapes_known)
        found = add_shape(session, joined);
    unlock_library();
    return found;
}

/* ---- Values ---- */

static void copy_string(char *to, const char *text)
{
    size_t length = text != NULL ? strnlen(text, STRING_SIZE - 2) : 0;
    memset(to, 0, STRING_SIZE);
    to[0] = (char)length;
    if (length > 0)
        memcpy(to + 1, text, length);
}

static void copy_address(char *to, chrony_session *session, int field)
{
    lock_library();
    copy_string(to, chrony.get_field_string(session, field));
    unlock_library();
}

/* Copy the value of a field to `to`, in the form that `shim_place` describes. */
static void copy_value(char *to, chrony_session *session, int field, int type)
{
    if (type == UINTEGER) {
        uint64_t value = chrony.get_field_uinteger(session, field);
        memcpy(to, &value, sizeof(value));
    } else if (type == INTEGER) {
        int64_t value = chrony.get_field_integer(session, field);
        memcpy(to, &value, sizeof(value));
    } else if (type == FLOAT) {
        double value = chrony.get_field_float(session, field);
        memcpy(to, &value, sizeof(value));
    } else if (type == TIMESPEC) {
        struct timespec value = chrony.get_field_timespec(session, field);
        int64_t parts[2] = {value.tv_sec, value.tv_nsec};
        memcpy(to, parts, sizeof(parts));
    } else if (type == STRING) {
        copy_address(to, session, field);
    }
}

/* ---- The source of a record ---- */

void read_source(struct source *source, chrony_session *session)
{
    memset(source, 0, sizeof(*source));
    for (int i = 0; i < chrony.get_record_number_fields(session); i++) {
        const char *name = chrony.get_field_name(session, i);
        int type = (int)chrony.get_field_type(session, i);
        if (type == STRING && source->address[0] == 0)
            copy_address(source->address, session, i);
        else if (type == UINTEGER && name != NULL && strcmp(name, "reference ID") == 0)
            source->id = chrony.get_field_uinteger(session, i);
    }
}

const char *find_address(const struct store *store, const shim_place *place)
{
    if (place->shape < 0)
        return "";
    const char *found = store->bytes + place->offset;
    const shim_shape *shape = &shapes[place->shape];
    for (int i = 0; i < shape->count; i++) {
        if (shape->fields[i].type == STRING)
            return found;
        found += width(shape->fields[i].type);
    }
    return "";
}

/* ---- Records ---- */

/* Append the name of a value, if it has one, and a newline. Returns the new length. */
static size_t add_name(char *to, size_t length, chrony_session *session, int field, uint64_t value)
{
    const char *name = chrony.get_field_constant_name(session, field, value);
    size_t size = name != NULL ? strlen(name) : 0;
    if (size == 0 || length + size + 1 > NAMES_SIZE - MAX_FIELDS)
        return length;
    memcpy(to + length, name, size);
    to[length + size] = '\n';
    return length + size + 1;
}

/* Write the names that apply to each field, one per line, and a zero byte after each field. Returns
   the length. */
static size_t write_names(char *to, chrony_session *session, const shim_shape *shape, int joined)
{
    size_t length = 0;
    for (int i = 0; i < shape->count - joined; i++) {
        int content = shape->fields[i + joined].content;
        uint64_t value = chrony.get_field_uinteger(session, i);
        if (content == CONTENT_ENUM)
            length = add_name(to, length, session, i, value);
        for (uint64_t flag = 1; content == CONTENT_FLAGS && flag != 0; flag <<= 1)
            if ((value & flag) != 0)
                length = add_name(to, length, session, i, flag);
        to[length++] = '\0';
    }
    return length;
}

/* ---- The store ---- */

/* Make room for `size` bytes at `place`, or reuse what it has. False: no memory. */
static bool reserve(struct store *store, shim_place *place, size_t size)
{
    if (size <= place->size)
        return true;
    size_t needed = store->used + size;
    if (needed > store->size) {
        size_t more = 2 * store->size > needed ? 2 * store->size : needed;
        char *bytes = more <= UINT32_MAX ? realloc(store->bytes, more) : NULL;
        if (bytes == NULL)
            return false;
        store->bytes = bytes;
        store->size = more;
        store->moved++;
    }
    place->offset = (unsigned int)store->used;
    place->size = (unsigned int)size;
    store->used = needed;
    return true;
}

int copy_record(struct store *store, shim_place *place, chrony_session *session, int flags,
                const char *address, int *shape)
{
    int joined = (flags & SHIM_JOINED) != 0;
    if (chrony.get_record_number_fields(session) == 0)
        return OK;
    int number = find_shape(session, joined, *shape);
    if (number < 0)
        return SHIM_ABSURD;
    const shim_shape *found = &shapes[number];
    char names[NAMES_SIZE];
    size_t values = 0, named = 0;
    for (int i = 0; i < found->count; i++)
        values += width(found->fields[i].type);
    if ((flags & SHIM_NAMED) != 0)
        named = write_names(names, session, found, joined);
    if (!reserve(store, place, values + named))
        return NO_MEMORY;
    char *to = store->bytes + place->offset;
    if (joined) {
        memcpy(to, address, STRING_SIZE);
        to += STRING_SIZE;
    }
    for (int i = joined; i < found->count; i++) {
        copy_value(to, session, i - joined, found->fields[i].type);
        to += width(found->fields[i].type);
    }
    memcpy(to, names, named);
    *shape = place->shape = number;
    return OK;
}
