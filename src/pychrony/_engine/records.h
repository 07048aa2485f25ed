/*
 * Copies the record that a libchrony session holds to the caller's memory. A part of shim.c.
 */

enum { MAX_FIELDS = (int)(sizeof((shim_shape *)0)->fields / sizeof(shim_field)) };
enum { STRING_SIZE = 48 }; /* an IPv6 address has 45 characters at most */

static shim_shape shapes[64]; /* libchrony has a dozen */
static int shapes_known;

const shim_shape *shim_get_shape(int shape)
{
    take_lock();
    const shim_shape *found = shape >= 0 && shape < shapes_known ? &shapes[shape] : NULL;
    drop_lock();
    return found;
}

static unsigned int width(int type)
{
    switch (type) {
    case UINTEGER:
    case INTEGER:
    case FLOAT:
        return 8;
    case TIMESPEC:
        return 16;
    case STRING:
        return STRING_SIZE;
    default:
        return 0;
    }
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
    /* Whether an address is set is a matter of the record, not of its shape. */
    field->content = type == STRING ? CONTENT_ADDRESS : content;
}

/* The number of the shape of the record that `session` holds; -1 if it is beyond our tables. */
static int find_shape(chrony_session *session, int joined, int likely)
{
    int count = chrony.get_record_number_fields(session) + joined;
    if (likely >= 0 && has_shape(session, joined, &shapes[likely]))
        return likely;
    for (int i = 0; i < shapes_known; i++)
        if (has_shape(session, joined, &shapes[i]))
            return i;
    if (count > MAX_FIELDS || shapes_known == (int)(sizeof(shapes) / sizeof(shapes[0])))
        return -1;
    shim_shape *shape = &shapes[shapes_known];
    shape->count = count;
    if (joined)
        set_field(&shape->fields[0], "address", STRING, CONTENT_ADDRESS);
    for (int i = joined; i < count; i++)
        set_field(&shape->fields[i], chrony.get_field_name(session, i - joined),
                  (int)chrony.get_field_type(session, i - joined),
                  (int)chrony.get_field_content(session, i - joined));
    return shapes_known++;
}

static void copy_string(char *to, const char *text)
{
    size_t length = text != NULL ? strnlen(text, STRING_SIZE - 1) : 0;
    memset(to, 0, STRING_SIZE);
    to[0] = (char)length;
    if (length > 0)
        memcpy(to + 1, text, length);
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
        copy_string(to, chrony.get_field_string(session, field));
    }
}

/* Append `text` and `end` behind what is used; beyond the room there is, only count. */
static void append(shim_batch *batch, const char *text, char end)
{
    size_t length = strlen(text);
    if (batch->used + length + 1 <= batch->size) {
        memcpy(batch->bytes + batch->used, text, length);
        batch->bytes[batch->used + length] = end;
    }
    batch->used += length + 1;
}

/* Append the names that apply to a field, a line each, and a zero byte. */
static void append_names(shim_batch *batch, chrony_session *session, int field)
{
    uint64_t value = chrony.get_field_uinteger(session, field);
    int content = (int)chrony.get_field_content(session, field);
    if (content == CONTENT_ENUM) {
        const char *name = chrony.get_field_constant_name(session, field, value);
        if (name != NULL)
            append(batch, name, '\n');
    }
    for (uint64_t flag = 1; content == CONTENT_FLAGS && flag != 0; flag <<= 1) {
        const char *name =
            (value & flag) != 0 ? chrony.get_field_constant_name(session, field, flag) : NULL;
        if (name != NULL)
            append(batch, name, '\n');
    }
    append(batch, "", '\0');
}

/* Copy the record that `session` holds to the batch's bytes, behind the address of its source if
   it is to have one. False: they are too few. */
static bool copy_record(shim_batch *batch, shim_ask *ask, int record, chrony_session *session,
                        const char *address)
{
    shim_place *place = &batch->places[ask->first + record];
    int joined = (ask->flags & SHIM_JOINED) != 0;
    size_t start = batch->used, at = start;
    if (chrony.get_record_number_fields(session) == 0)
        return true;
    int number = find_shape(session, joined, ask->shape);
    if (number < 0) {
        ask->records = chrony.get_record_number_fields(session);
        ask->error = SHIM_ABSURD;
        return true;
    }
    const shim_shape *shape = &shapes[number];
    for (int i = 0; i < shape->count; i++)
        batch->used += width(shape->fields[i].type);
    for (int i = joined; (ask->flags & SHIM_NAMED) != 0 && i < shape->count; i++)
        append_names(batch, session, i - joined);
    size_t end = batch->used;
    if (end > batch->size) {
        batch->wanted_size = end;
        batch->used = start;
        return false;
    }
    if (joined) {
        memcpy(batch->bytes + at, address, STRING_SIZE);
        at += STRING_SIZE;
    }
    for (int i = joined; i < shape->count; i++) {
        copy_value(batch->bytes + at, session, i - joined, shape->fields[i].type);
        at += width(shape->fields[i].type);
    }
    ask->shape = place->shape = number;
    place->offset = (unsigned int)start;
    place->size = (unsigned int)(end - start);
    return true;
}
