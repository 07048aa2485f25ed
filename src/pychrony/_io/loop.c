/*
 * Last layer: loops wait for the sockets of clients, and step clients that are ready or due.
 *
 * Locks. Nothing waits for chronyd under any of them. In the order in which they are taken:
 *
 *   loops_lock  (here)       the list of all loops. Taken to add or remove one, to fork, to exit.
 *   loop->lock  (here)       the loop, its clients, their batches and sockets. Taken by each
 *                            function of shim.h for as long as it runs, but never while it waits
 *                            for chronyd. Sockets are opened and closed while it is held, which
 *                            takes time, but only callers that share a loop contend for it.
 *   lock        (library.c)  the single buffer in which libchrony formats addresses; adding to the
 *                            table of its functions, or to the shapes. Reading those takes no lock,
 *                            because a shape's number is only known once the lock has been held.
 *
 * A finished batch is read by its owner without a lock: only shim_start() on the same client
 * changes it. The budget of sockets is one atomic number. The engine does not rely on the GIL.
 *
 * fork() takes all locks first, so that the child sees no half-finished change.
 */
#include "batch.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 64 }; /* taken in at a time */

/* ---- Lists ---- */

/* A list is a ring of nodes, one of which is its head; a node that is in no list is alone. */
struct node {
    struct node *next, *last;
};

#define ITEM(node, type, member) ((type *)(void *)((char *)(node) - offsetof(type, member)))
#define FOR_EACH(node, list) for (node = (list)->next; node != (list); node = node->next)

static void make_alone(struct node *node) { node->next = node->last = node; }

static bool is_alone(const struct node *node) { return node->next == node; }

static void detach(struct node *node)
{
    node->next->last = node->last;
    node->last->next = node->next;
    make_alone(node);
}

/* Move a node to the end of a list. */
static void append(struct node *node, struct node *list)
{
    detach(node);
    node->next = list;
    node->last = list->last;
    list->last->next = node;
    list->last = node;
}

/* ---- Structures ---- */

struct shim_client {
    struct batch batch;
    shim_loop *loop;
    struct node among_all, among_ready, among_finished; /* of the loop */
    int64_t due; /* when to step at the latest */
};

struct shim_loop {
    pthread_mutex_t lock;
    struct node among_all; /* of the process */
    struct hub hub;
    int references; /* one of the caller, and one of each client */
    int64_t due;    /* no client is due earlier */
    struct node clients;
    struct node ready;    /* clients to step */
    struct node finished; /* clients whose batches shim_finished() is to return */
    int64_t tags;         /* given to clients so far */
    int64_t pauses;       /* nanoseconds that do not count towards timeouts */
};

static pthread_mutex_t loops_lock = PTHREAD_MUTEX_INITIALIZER;
static struct node loops = {&loops, &loops};
static bool over; /* everything is closed, because the process is ending */

static shim_loop *loop_at(struct node *node) { return ITEM(node, shim_loop, among_all); }

static shim_client *client_at(struct node *node) { return ITEM(node, shim_client, among_all); }

/* The loop's clock, which stands still during pauses. */
static int64_t clock_now(const shim_loop *loop)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * SECOND + now.tv_nsec - loop->pauses;
}

static void lock_loop(shim_loop *loop) { pthread_mutex_lock(&loop->lock); }
static void unlock_loop(shim_loop *loop) { pthread_mutex_unlock(&loop->lock); }

/* ---- Ready and finished clients ---- */

/* Step the client at the next step of the loop. */
static void make_ready(shim_client *client) { append(&client->among_ready, &client->loop->ready); }

int64_t shim_finished(shim_loop *loop)
{
    lock_loop(loop);
    int64_t tag = -1;
    if (!is_alone(&loop->finished)) {
        shim_client *client = ITEM(loop->finished.next, shim_client, among_finished);
        detach(&client->among_finished);
        tag = client->batch.seen.tag;
    }
    unlock_loop(loop);
    return tag;
}

/* ---- All loops ---- */

static void lock_all(void)
{
    struct node *node;
    pthread_mutex_lock(&loops_lock);
    FOR_EACH(node, &loops)
        lock_loop(loop_at(node));
    lock_library();
}

static void unlock_all(void)
{
    struct node *node;
    unlock_library();
    FOR_EACH(node, &loops)
        unlock_loop(loop_at(node));
    pthread_mutex_unlock(&loops_lock);
}

/* Close all sockets of the process; in a forked child, without the files of the parent's sockets. */
static void close_sockets(bool inherited)
{
    struct node *node, *inner;
    FOR_EACH(node, &loops) {
        shim_loop *loop = loop_at(node);
        loop->hub.inherited = inherited;
        FOR_EACH(inner, &loop->clients) {
            shim_client *client = client_at(inner);
            close_peer(&client->batch.peer);
            if (client->batch.seen.running)
                begin_again(&client->batch);
            make_ready(client);
        }
        if (inherited)
            close_hub(&loop->hub);
    }
}

/* At the end of the process, too, when a thread may still be in a call. */
__attribute__((destructor))
void shim_close_all(void)
{
    lock_all();
    close_sockets(false);
    over = true;
    unlock_all();
}

/* A child that used its parent's sockets would receive the parent's answers, and libchrony would
   use the same sequence numbers in both. */
static void in_child(void)
{
    close_sockets(true);
    unlock_all();
}

/* Runs when the shim is loaded, before any lock can be held. */
__attribute__((constructor)) static void register_fork_handlers(void)
{
    pthread_atfork(lock_all, unlock_all, in_child);
}

/* ---- One loop ---- */

shim_loop *shim_loop_new(void)
{
    shim_loop *loop = calloc(1, sizeof(*loop));
    if (loop == NULL)
        return NULL;
    pthread_mutex_init(&loop->lock, NULL);
    loop->hub.epoll = -1;
    loop->references = 1;
    loop->due = NEVER;
    make_alone(&loop->among_all);
    make_alone(&loop->clients);
    make_alone(&loop->ready);
    make_alone(&loop->finished);
    pthread_mutex_lock(&loops_lock);
    append(&loop->among_all, &loops);
    pthread_mutex_unlock(&loops_lock);
    return loop;
}

/* Give up the reference of the caller or of a client: the loop ends with the last. */
void shim_loop_free(shim_loop *loop)
{
    lock_loop(loop);
    bool used = --loop->references > 0;
    unlock_loop(loop);
    if (used)
        return;
    pthread_mutex_lock(&loops_lock);
    detach(&loop->among_all);
    pthread_mutex_unlock(&loops_lock);
    close_hub(&loop->hub);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

int shim_loop_fd(shim_loop *loop)
{
    lock_loop(loop);
    int epoll = loop->hub.epoll;
    unlock_loop(loop);
    return epoll;
}

void shim_postpone(shim_loop *loop, int64_t pause)
{
    lock_loop(loop);
    loop->pauses += pause;
    unlock_loop(loop);
}

/* ---- Clients ---- */

shim_client *shim_client_new(void) { return calloc(1, sizeof(shim_client)); }

/* Put the client into a loop. */
static void join_loop(shim_client *client, shim_loop *loop)
{
    struct peer *peer = &client->batch.peer;
    client->loop = loop;
    client->due = NEVER;
    make_alone(&client->among_all);
    make_alone(&client->among_ready);
    make_alone(&client->among_finished);
    append(&client->among_all, &loop->clients);
    loop->references++;
    init_batch(&client->batch, loop->tags++);
    peer->hub = &loop->hub;
    peer->owner = client;
}

/* Take the client out of its loop. */
static void leave_loop(shim_client *client)
{
    shim_loop *loop = client->loop;
    lock_loop(loop);
    free_peer(&client->batch.peer);
    detach(&client->among_finished);
    detach(&client->among_ready);
    detach(&client->among_all);
    unlock_loop(loop);
    shim_loop_free(loop);
}

int shim_open(shim_client *client, shim_loop *loop, const char *address, int kept, int *system)
{
    *system = ENOMEM;
    if (client == NULL)
        return NO_MEMORY;
    lock_loop(loop);
    join_loop(client, loop);
    int error = over ? SHIM_UNREACHABLE : open_peer(&client->batch.peer, address, kept);
    *system = over ? ECANCELED : errno;
    unlock_loop(loop);
    return error;
}

void shim_client_free(shim_client *client)
{
    if (client == NULL)
        return;
    if (client->loop != NULL)
        leave_loop(client);
    free_batch(&client->batch);
    free(client);
}

shim_batch *shim_batch_of(shim_client *client) { return &client->batch.seen; }

/* ---- Steps ---- */

static void step_client(shim_client *client, int64_t now)
{
    struct batch *batch = &client->batch;
    bool running = batch->seen.running;
    if (running && over)
        fail_batch(batch, SHIM_UNREACHABLE, ECANCELED);
    client->due = step_batch(batch, now);
    if (running && !batch->seen.running)
        append(&client->among_finished, &client->loop->finished);
    if (client->due < client->loop->due)
        client->loop->due = client->due;
}

/* Step the clients that are ready, and those that are due. */
static void step(shim_loop *loop, int64_t now)
{
    struct node *node;
    while (!is_alone(&loop->ready)) {
        shim_client *client = ITEM(loop->ready.next, shim_client, among_ready);
        detach(&client->among_ready);
        step_client(client, now);
    }
    if (now < loop->due)
        return;
    loop->due = NEVER;
    FOR_EACH(node, &loop->clients) {
        shim_client *client = client_at(node);
        if (client->due <= now) {
            look_again(&client->batch.peer); /* its events may not have been taken in yet */
            step_client(client, now);
        } else if (client->due < loop->due) {
            loop->due = client->due;
        }
    }
}

static void take_events(const struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++)
        make_ready(take_event(&events[i]));
}

/* The nanoseconds until the next step is due, as shim_run() returns them. */
static int64_t time_left(const shim_loop *loop, int64_t now)
{
    if (!is_alone(&loop->finished) || !is_alone(&loop->ready))
        return 0;
    return loop->due == NEVER ? NEVER : loop->due > now ? loop->due - now : 0;
}

/* Wait for events for `time` nanoseconds. Returns their number, or -1 after a signal. */
static int wait_for(int epoll, struct epoll_event *events, int64_t time)
{
    int milliseconds = time > 0 ? (int)((time + MILLISECOND - 1) / MILLISECOND) : 0;
    int found = epoll_wait(epoll, events, EVENTS, milliseconds);
    if (found < 0 && errno != EINTR) /* without a socket, only time can pass */
        found = poll(NULL, 0, milliseconds);
    return found;
}

int64_t shim_run(shim_loop *loop, int64_t longest)
{
    struct epoll_event events[EVENTS];
    int found;
    lock_loop(loop);
    int64_t now = clock_now(loop), end = now + longest;
    do {
        int64_t left = time_left(loop, now);
        int epoll = loop->hub.epoll;
        int64_t closed = loop->hub.closed;
        unlock_loop(loop);
        found = wait_for(epoll, events, left < end - now ? left : end - now);
        lock_loop(loop);
        /* The socket of an event may not exist any more; the other events come again. */
        if (loop->hub.closed == closed)
            take_events(events, found);
        now = clock_now(loop);
        step(loop, now);
        /* After a signal, Python runs its handler. */
    } while (found >= 0 && is_alone(&loop->finished) && now < end);
    int64_t left = time_left(loop, now);
    unlock_loop(loop);
    return left;
}

/* ---- Starting and stopping ---- */

int64_t shim_start(shim_client *client, const shim_ask *asks, int asked, int64_t timeout,
                   int64_t longest)
{
    shim_loop *loop = client->loop;
    lock_loop(loop);
    detach(&client->among_finished);
    client->due = NEVER;
    int64_t now = clock_now(loop);
    int error = start_batch(&client->batch, asks, asked, timeout, now);
    if (error == OK)
        step_client(client, now);
    int64_t left = time_left(loop, now);
    unlock_loop(loop);
    if (error != OK)
        return -error;
    return longest > 0 ? shim_run(loop, longest) : left;
}

void shim_stop(shim_client *client)
{
    lock_loop(client->loop);
    if (client->batch.seen.running)
        stop_batch(&client->batch);
    client->due = NEVER;
    detach(&client->among_finished);
    unlock_loop(client->loop);
}
