/*
 * Implements loops, which wait for the sockets of clients, and step clients that are ready or due.
 */
#include "engine.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 64 }; /* taken in at a time */

static pthread_mutex_t loops_lock = PTHREAD_MUTEX_INITIALIZER;
static shim_loop *loops; /* all loops of the process */

int64_t clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * SECOND + now.tv_nsec;
}

void lock_loop(shim_loop *loop) { pthread_mutex_lock(&loop->lock); }
void unlock_loop(shim_loop *loop) { pthread_mutex_unlock(&loop->lock); }

/* ---- All loops ---- */

void lock_loops(void)
{
    pthread_mutex_lock(&loops_lock);
    for (shim_loop *loop = loops; loop != NULL; loop = loop->next)
        lock_loop(loop);
}

void unlock_loops(void)
{
    for (shim_loop *loop = loops; loop != NULL; loop = loop->next)
        unlock_loop(loop);
    pthread_mutex_unlock(&loops_lock);
}

/* Close what the loop itself has open: its epoll descriptor first, which saves removing each socket
   from it, and its spare sessions. */
static void close_own(shim_loop *loop)
{
    if (loop->epoll >= 0)
        close(loop->epoll);
    loop->epoll = -1;
    close_spares(loop, 0);
}

void leave_loops_to_parent(void)
{
    for (shim_loop *loop = loops; loop != NULL; loop = loop->next) {
        for (shim_client *client = loop->clients; client != NULL; client = client->next)
            leave_client_to_parent(client);
        close_own(loop); /* the spare sessions would use the same random numbers as the parent */
        loop->due = 0;
    }
}

void shim_close_all(void)
{
    lock_loops();
    for (shim_loop *loop = loops; loop != NULL; loop = loop->next) {
        for (shim_client *client = loop->clients; client != NULL; client = client->next) {
            close_client(client);
            make_ready(client);
        }
        close_spares(loop, 0);
        loop->over = true;
    }
    unlock_loops();
}

/* At the end of the process, a thread may still be in a call. */
__attribute__((destructor)) static void close_at_exit(void) { shim_close_all(); }

/* ---- One loop ---- */

shim_loop *shim_loop_new(void)
{
    shim_loop *loop = calloc(1, sizeof(*loop));
    if (loop == NULL)
        return NULL;
    pthread_mutex_init(&loop->lock, NULL);
    loop->epoll = -1;
    loop->references = 1;
    loop->due = NEVER;
    pthread_mutex_lock(&loops_lock);
    loop->next = loops;
    if (loops != NULL)
        loops->last = loop;
    loops = loop;
    pthread_mutex_unlock(&loops_lock);
    return loop;
}

/* Close the loop's own descriptors if no client has a socket. If an exception of a signal handler
   made the caller lose a client before it was opened, only the loop's memory stays in use. */
static void close_unused(shim_loop *loop)
{
    for (shim_client *client = loop->clients; client != NULL; client = client->next)
        if (client->open > 0)
            return;
    close_own(loop);
}

void leave_loop(shim_loop *loop)
{
    lock_loop(loop);
    bool used = --loop->references > 0;
    if (used && loop->abandoned) /* otherwise, the caller may be waiting for the descriptor */
        close_unused(loop);
    unlock_loop(loop);
    if (used)
        return;
    pthread_mutex_lock(&loops_lock);
    if (loop->next != NULL)
        loop->next->last = loop->last;
    if (loop->last != NULL)
        loop->last->next = loop->next;
    else
        loops = loop->next;
    pthread_mutex_unlock(&loops_lock);
    close_own(loop);
    pthread_mutex_destroy(&loop->lock);
    free_slots(loop);
    free(loop);
}

void shim_loop_free(shim_loop *loop)
{
    if (loop == NULL)
        return;
    lock_loop(loop);
    loop->abandoned = true;
    unlock_loop(loop);
    leave_loop(loop);
}

int open_epoll(shim_loop *loop)
{
    if (loop->epoll < 0)
        loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    return loop->epoll < 0 ? -1 : 0;
}

int shim_loop_fd(shim_loop *loop)
{
    lock_loop(loop);
    int epoll = loop->epoll;
    unlock_loop(loop);
    return epoll;
}

/* ---- The clients of a loop ---- */

void add_client(shim_client *client)
{
    shim_loop *loop = client->loop;
    lock_loop(loop);
    loop->references++;
    client->batch.tag = loop->tags++;
    client->next = loop->clients;
    if (client->next != NULL)
        client->next->last = client;
    loop->clients = client;
    unlock_loop(loop);
}

void make_ready(shim_client *client)
{
    if (client->ready)
        return;
    client->ready = true;
    client->next_ready = client->loop->ready;
    client->loop->ready = client;
}

static void remove_ready(shim_client *client)
{
    shim_client **place = &client->loop->ready;
    while (client->ready && *place != client)
        place = &(*place)->next_ready;
    if (client->ready)
        *place = client->next_ready;
    client->ready = false;
}

void finish(shim_client *client)
{
    shim_loop *loop = client->loop;
    client->finished = true;
    client->next_finished = NULL;
    if (loop->finished == NULL)
        loop->finished = client;
    else
        loop->finished_last->next_finished = client;
    loop->finished_last = client;
    loop->done++;
}

void remove_finished(shim_client *client)
{
    shim_loop *loop = client->loop;
    shim_client *before = NULL;
    if (!client->finished)
        return;
    for (shim_client *c = loop->finished; c != client; c = c->next_finished)
        before = c;
    if (before == NULL)
        loop->finished = client->next_finished;
    else
        before->next_finished = client->next_finished;
    if (loop->finished_last == client)
        loop->finished_last = before;
    client->finished = false;
    loop->done--;
}

void remove_client(shim_client *client)
{
    shim_loop *loop = client->loop;
    remove_ready(client);
    remove_finished(client);
    if (client->next != NULL)
        client->next->last = client->last;
    if (client->last != NULL)
        client->last->next = client->next;
    else
        loop->clients = client->next;
}

int64_t shim_finished(shim_loop *loop)
{
    lock_loop(loop);
    shim_client *client = loop->finished;
    if (client != NULL)
        remove_finished(client);
    unlock_loop(loop);
    return client != NULL ? client->batch.tag : -1;
}

/* ---- Idle sockets ---- */

/* The client of the loop that has more than one socket and has been idle longest; or NULL. */
static shim_client *idlest(const shim_loop *loop)
{
    shim_client *found = NULL;
    for (shim_client *client = loop->clients; client != NULL; client = client->next)
        if (!client->running && client->open > 1 &&
            (found == NULL || client->idle_since < found->idle_since))
            found = client;
    return found;
}

/* The same among all loops; returns with its loop's lock held, as that of `own` already is. */
static shim_client *lock_idlest(shim_loop *own)
{
    shim_client *found = idlest(own);
    for (shim_loop *loop = loops; loop != NULL; loop = loop->next) {
        if (loop == own || pthread_mutex_trylock(&loop->lock) != 0)
            continue; /* in use, so it is not idle */
        shim_client *other = idlest(loop);
        bool better = other != NULL && (found == NULL || other->idle_since < found->idle_since);
        if (better && found != NULL && found->loop != own)
            unlock_loop(found->loop);
        if (better)
            found = other;
        else
            unlock_loop(loop);
    }
    return found;
}

bool close_idlest(shim_loop *own)
{
    if (pthread_mutex_trylock(&loops_lock) != 0)
        return false; /* a fork, or the end of the process, which waits for our lock */
    struct link links[KEPT];
    shim_client *client = lock_idlest(own);
    int count = client != NULL ? take_further_links(client, links, KEPT) : 0;
    if (client != NULL && client->loop != own)
        unlock_loop(client->loop);
    pthread_mutex_unlock(&loops_lock);
    for (int i = 0; i < count; i++)
        close_link(&links[i]); /* after releasing its lock, so that its owner does not wait */
    return count > 0;
}

/* ---- Steps ---- */

/* When the first of the clients is due. */
static int64_t first_due(const shim_loop *loop)
{
    int64_t due = NEVER;
    for (const shim_client *client = loop->clients; client != NULL; client = client->next)
        if (client->due < due)
            due = client->due;
    return due;
}

static void step_client(shim_client *client, int64_t now)
{
    step_batch(client, now);
    if (client->due < client->loop->due)
        client->loop->due = client->due;
}

/* Step the clients that are ready, and those that are due. */
static void step(shim_loop *loop, int64_t now)
{
    for (shim_client *client; (client = loop->ready) != NULL;) {
        loop->ready = client->next_ready;
        client->ready = false;
        step_client(client, now);
    }
    if (now < loop->due)
        return;
    for (shim_client *client = loop->clients; client != NULL; client = client->next)
        if (client->due <= now) {
            look_again(client); /* its events may not have been taken in yet */
            step_client(client, now);
        }
    loop->due = first_due(loop);
}

static void take_events(const shim_loop *loop, const struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++) {
        struct slot *slot = events[i].data.ptr;
        if (slot->client == NULL) {
            unwatch_spare(slot, loop->epoll);
            continue;
        }
        slot->ready = true;
        make_ready(slot->client);
    }
}

int64_t step_now(shim_loop *loop)
{
    int64_t now = clock_now();
    step(loop, now);
    if (loop->done > 0)
        return 0;
    return loop->due == NEVER ? -1 : loop->due > now ? loop->due - now : 0;
}

int64_t shim_step(shim_loop *loop)
{
    struct epoll_event events[EVENTS];
    lock_loop(loop);
    int found = loop->epoll >= 0 ? epoll_wait(loop->epoll, events, EVENTS, 0) : 0;
    take_events(loop, events, found);
    int64_t due = step_now(loop);
    unlock_loop(loop);
    return due;
}

int64_t shim_step_blindly(shim_loop *loop)
{
    lock_loop(loop);
    int64_t due = step_now(loop);
    unlock_loop(loop);
    return due;
}

void shim_postpone(shim_loop *loop, int64_t pause)
{
    lock_loop(loop);
    for (shim_client *client = loop->clients; client != NULL; client = client->next)
        if (client->running)
            postpone(client, pause);
    loop->due = first_due(loop);
    unlock_loop(loop);
}

/* Wait for events for `time` nanoseconds. Returns their number, or -1 after a signal. */
static int wait_for(int epoll, struct epoll_event *events, int64_t time)
{
    int milliseconds = time > 0 ? (int)((time + MILLISECOND - 1) / MILLISECOND) : 0;
    int found = epoll >= 0 ? epoll_wait(epoll, events, EVENTS, milliseconds) : 0;
    if (found < 0 && errno == EINTR)
        return -1;
    /* Without a socket, only time can pass. */
    if (found < 0 || epoll < 0)
        return poll(NULL, 0, milliseconds) < 0 ? -1 : 0;
    return found;
}

int shim_run(shim_loop *loop, int64_t longest)
{
    struct epoll_event events[EVENTS];
    lock_loop(loop);
    int64_t now = clock_now(), end = now + longest;
    for (;;) {
        step(loop, now);
        if (loop->done > 0 || now >= end || loop->over)
            break;
        int64_t time = (loop->due < end ? loop->due : end) - now;
        int epoll = loop->epoll;
        unlock_loop(loop);
        int found = wait_for(epoll, events, time);
        lock_loop(loop);
        if (found < 0)
            break; /* a signal: let Python run its handler */
        take_events(loop, events, found);
        now = clock_now();
    }
    int done = loop->done;
    unlock_loop(loop);
    return done;
}
