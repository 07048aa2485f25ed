/*
 * Opens and closes clients and their sockets, within a budget; leaves them to the parent at a fork.
 */
#include "engine.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- The budget ---- */

/* The first socket of a client is always allowed. This is the number of all other sockets of the
   process. Each takes two descriptors, since libchrony opens /dev/urandom for each session. */
static atomic_int further;

/* Further sockets may take a quarter of all descriptors. */
static int most_further(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur / 8 > INT32_MAX)
        return INT32_MAX;
    return (int)(limit.rlim_cur / 8);
}

static bool take_budget(void)
{
    if (atomic_fetch_add(&further, 1) < most_further())
        return true;
    atomic_fetch_sub(&further, 1);
    return false;
}

static void return_budget(void) { atomic_fetch_sub(&further, 1); }

/* ---- Sockets ---- */

void close_link(struct link *link)
{
    if (link->session != NULL)
        chrony.deinit_session(link->session);
    if (link->fd >= 0)
        chrony.close_socket(link->fd);
    link->session = NULL;
    link->fd = -1;
}

/* Create a session on the slot's socket. */
static int create_session(struct slot *slot)
{
    int error = (int)chrony.init_session(&slot->link.session, slot->link.fd);
    if (error != OK)
        slot->link.session = NULL;
    slot->link.number = slot->client->loop->sessions++;
    return error;
}

/* ---- Spare sessions ---- */

static int by_number(const void *one, const void *other)
{
    unsigned first = (*(struct slot *const *)one)->link.number;
    unsigned second = (*(struct slot *const *)other)->link.number;
    return (first > second) - (first < second);
}

/* Keep a slot without a socket for a new client. */
static void put_away(shim_loop *loop, struct slot *slot)
{
    slot->client = NULL;
    slot->next = loop->unused;
    loop->unused = slot;
}

static void close_spare(shim_loop *loop, struct slot *spare)
{
    chrony.deinit_session(spare->link.session);
    close(spare->link.fd); /* close_socket() would first find out that it has no file */
    spare->link = (struct link){.fd = -1};
    put_away(loop, spare);
}

/* Closes the newest first. A session has a stream for /dev/urandom, which fclose() looks for among
   all streams of the process, the newest first: in another order, it would take quadratic time. */
void close_spares(shim_loop *loop, int left)
{
    if (loop->spared > left)
        qsort(loop->spares, (size_t)loop->spared, sizeof(*loop->spares), by_number);
    while (loop->spared > left)
        close_spare(loop, loop->spares[--loop->spared]);
}

void shim_spare_sessions(shim_loop *loop, int most)
{
    lock_loop(loop);
    if (most > loop->spare_room) {
        struct slot **spares = realloc(loop->spares, sizeof(*spares) * (size_t)most);
        if (spares != NULL) {
            loop->spares = spares;
            loop->spare_room = most;
        }
    }
    loop->most_spared = most < loop->spare_room ? most : loop->spare_room;
    close_spares(loop, loop->most_spared);
    unlock_loop(loop);
}

/* Keep the session of a client that ends, if the session is clean. Its socket stays open until
   another one replaces it. */
static bool spare_session(struct slot *slot)
{
    shim_client *client = slot->client;
    shim_loop *loop = client->loop;
    bool clean = slot->link.session != NULL && slot->state == IDLE && !slot->dirty;
    if (!clean || client->ordered || loop->spared >= loop->most_spared)
        return false;
    slot->client = NULL;
    loop->spares[loop->spared++] = slot;
    if (--client->open > 0)
        return_budget();
    return true;
}

/* Otherwise, epoll would report a late answer again and again. In a slot without a socket, the
   event is of a socket that was closed. */
void unwatch_spare(const struct slot *slot, int epoll)
{
    if (slot->link.fd >= 0)
        epoll_ctl(epoll, EPOLL_CTL_DEL, slot->link.fd, NULL);
}

/* Give the slot's new socket a spare session: a new session would read 4 KiB of /dev/urandom, which
   takes longer than everything else. */
static void take_spare(struct slot *slot)
{
    shim_loop *loop = slot->client->loop;
    if (loop->spared == 0)
        return;
    struct slot *spare = loop->spares[--loop->spared];
    if (dup2(slot->link.fd, spare->link.fd) < 0) {
        close_spare(loop, spare);
        return;
    }
    close(slot->link.fd); /* close_socket() would delete the file of a Unix socket */
    slot->link = spare->link;
    spare->link = (struct link){.fd = -1};
    put_away(loop, spare);
}

/* ---- Slots ---- */

static void forget_request(struct slot *slot)
{
    set_state(slot, IDLE);
    slot->ready = slot->dirty = slot->writing = false;
}

void close_slot(struct slot *slot)
{
    bool was_open = slot->link.fd >= 0;
    forget_request(slot);
    close_link(&slot->link);
    if (was_open && --slot->client->open > 0)
        return_budget();
}

/* libchrony's recv() and send() would block, and its socket would outlive an exec. */
static int prepare(struct slot *slot)
{
    int fd = slot->link.fd;
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return SHIM_UNREACHABLE;
    int error = slot->link.session != NULL ? OK : create_session(slot);
    if (error != OK)
        return error;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = slot};
    if (open_epoll(slot->client->loop) != 0 ||
        epoll_ctl(slot->client->loop->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        return SHIM_UNREACHABLE;
    return OK;
}

/* Open the slot's socket; close the spare sessions if there are no descriptors left. */
static bool open_socket(struct slot *slot)
{
    shim_loop *loop = slot->client->loop;
    slot->link.fd = chrony.open_socket(slot->client->address);
    if (slot->link.fd < 0 && errno == EMFILE && loop->spared > 0) {
        close_spares(loop, 0);
        slot->link.fd = chrony.open_socket(slot->client->address);
    }
    if (slot->link.fd >= 0)
        take_spare(slot);
    return slot->link.fd >= 0;
}

int open_slot(struct slot *slot)
{
    shim_client *client = slot->client;
    if (client->open > 0 && !take_budget() && !(close_idlest(client->loop) && take_budget())) {
        errno = EMFILE;
        return SHIM_UNREACHABLE;
    }
    if (!open_socket(slot)) {
        if (client->open > 0)
            return_budget();
        return SHIM_UNOPENED;
    }
    client->open++;
    slot->fresh = true;
    slot->dirty = slot->ready = slot->writing = false;
    int error = prepare(slot);
    if (error == OK)
        return OK;
    int system = errno;
    close_slot(slot);
    errno = system;
    return error;
}

int renew_session(struct slot *slot)
{
    slot->dirty = false;
    chrony.deinit_session(slot->link.session);
    int error = create_session(slot);
    if (error == OK)
        return OK;
    int system = errno;
    close_slot(slot);
    errno = system;
    return error;
}

void watch_writing(struct slot *slot, bool writing)
{
    if (slot->writing == writing)
        return;
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = slot};
    epoll_ctl(slot->client->loop->epoll, EPOLL_CTL_MOD, slot->link.fd, &event);
    slot->writing = writing;
}

struct slot *empty_slot(shim_client *client)
{
    for (struct slot *slot = client->slots; slot != NULL; slot = slot->next)
        if (slot->link.fd < 0 && slot->state == IDLE)
            return slot;
    struct slot *slot = client->loop->unused;
    if (slot != NULL)
        client->loop->unused = slot->next;
    else
        slot = malloc(sizeof(*slot));
    if (slot == NULL)
        return NULL;
    *slot = (struct slot){.link.fd = -1, .client = client, .next = client->slots};
    client->slots = slot;
    return slot;
}

int take_further_links(shim_client *client, struct link *to, int room)
{
    int count = 0;
    for (struct slot *slot = client->slots; slot != NULL; slot = slot->next) {
        if (slot->link.fd < 0 || client->open == 1 || count == room)
            continue;
        forget_request(slot);
        to[count++] = slot->link;
        slot->link.fd = -1;
        slot->link.session = NULL;
        client->open--;
        return_budget();
    }
    return count;
}

void leave_client_to_parent(shim_client *client)
{
    for (struct slot *slot = client->slots; slot != NULL; slot = slot->next) {
        forget_request(slot);
        if (slot->link.session != NULL)
            chrony.deinit_session(slot->link.session);
        if (slot->link.fd >= 0)
            close(slot->link.fd); /* close_socket() would delete the parent's socket file */
        slot->link.session = NULL;
        slot->link.fd = -1;
    }
    client->open = 0;
    client->forked = client->running;
    further = 0;
}

void free_slots(shim_loop *loop)
{
    for (struct slot *slot; (slot = loop->unused) != NULL;) {
        loop->unused = slot->next;
        free(slot);
    }
    free(loop->spares);
}

/* ---- Clients ---- */

shim_client *shim_client_new(shim_loop *loop, int kept)
{
    shim_client *client = loop != NULL ? calloc(1, sizeof(*client)) : NULL;
    if (client == NULL)
        return NULL;
    client->loop = loop;
    client->known = -1;
    client->kept = kept < KEPT ? kept : KEPT;
    client->due = NEVER;
    add_client(client);
    return client;
}

/* Note the address that the socket is connected to, for further sockets. */
static void note_peer(shim_client *client, int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_un un;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        char room[sizeof(struct sockaddr_un) + 1]; /* a path of full length has no terminator */
    } peer;
    char host[INET6_ADDRSTRLEN] = "";
    socklen_t length = sizeof(struct sockaddr_un);
    memset(&peer, 0, sizeof(peer));
    if (getpeername(fd, &peer.any, &length) != 0)
        return;
    if (peer.any.sa_family == AF_UNIX) {
        snprintf(client->address, sizeof(client->address), "%s", peer.un.sun_path);
    } else if (peer.any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &peer.in.sin_addr, host, sizeof(host));
        snprintf(client->address, sizeof(client->address), "%s:%d", host, ntohs(peer.in.sin_port));
    } else if (peer.any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &peer.in6.sin6_addr, host, sizeof(host));
        snprintf(client->address, sizeof(client->address), "[%s]:%d", host,
                 ntohs(peer.in6.sin6_port));
    }
}

static int open_client(shim_client *client, const char *address)
{
    struct slot *slot = empty_slot(client);
    if (slot == NULL)
        return NO_MEMORY;
    snprintf(client->address, sizeof(client->address), "%s", address);
    int error = open_slot(slot);
    if (error == OK && address[0] == '\0')
        note_peer(client, slot->link.fd);
    client->ordered = client->address[0] == '/';
    return error;
}

int shim_open(shim_client *client, const char *address, int *system)
{
    *system = ENOMEM;
    if (client == NULL)
        return NO_MEMORY;
    lock_loop(client->loop);
    int error = client->loop->over ? SHIM_UNREACHABLE : open_client(client, address);
    *system = errno;
    unlock_loop(client->loop);
    return error;
}

const char *shim_address(const shim_client *client) { return client->address; }

shim_batch *shim_batch_of(shim_client *client) { return &client->batch; }

void close_client(shim_client *client)
{
    for (struct slot *slot = client->slots; slot != NULL; slot = slot->next)
        close_slot(slot);
}

void shim_client_free(shim_client *client)
{
    if (client == NULL)
        return;
    shim_loop *loop = client->loop;
    lock_loop(loop);
    for (struct slot *slot; (slot = client->slots) != NULL;) {
        client->slots = slot->next;
        if (spare_session(slot))
            continue;
        close_slot(slot);
        put_away(loop, slot);
    }
    remove_client(client);
    unlock_loop(loop);
    leave_loop(loop);
    free(client->asks);
    free(client->progress);
    free(client->bytes);
    free(client->places);
    free(client->roster.identities);
    free(client);
}
