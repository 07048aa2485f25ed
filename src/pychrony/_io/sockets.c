/*
 * Opens, watches and closes sockets, within a budget.
 */
#include "sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- The budget ---- */

/* Each client may always open a first socket. This is the number of all other sockets in the
   process; together, they may use a quarter of all descriptors. */
static atomic_int further;

static int budget(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur / 8 > INT32_MAX)
        return INT32_MAX;
    return (int)(limit.rlim_cur / 8);
}

static bool take_budget(void)
{
    if (atomic_fetch_add(&further, 1) < budget())
        return true;
    atomic_fetch_sub(&further, 1);
    return false;
}

static void return_budget(struct socket *socket)
{
    if (socket->further)
        atomic_fetch_sub(&further, 1);
    socket->further = false;
}

int budget_to_spare(void) { return budget() / 2 - further; }

/* ---- Memory ---- */

/* Keep the memory of a closed socket for a new one. */
static void put_away(struct hub *hub, struct socket *socket)
{
    return_budget(socket);
    *socket = (struct socket){.fd = -1, .next = hub->closed};
    hub->closed = socket;
}

static struct socket *take_memory(struct hub *hub)
{
    struct socket *socket = hub->closed;
    if (socket != NULL)
        hub->closed = socket->next;
    else
        socket = malloc(sizeof(*socket));
    if (socket != NULL)
        *socket = (struct socket){.fd = -1};
    return socket;
}

void free_hub(struct hub *hub)
{
    for (struct socket *socket; (socket = hub->closed) != NULL;) {
        hub->closed = socket->next;
        free(socket);
    }
    free(hub->spares);
}

/* ---- Sessions ---- */

static int create_session(struct hub *hub, struct socket *socket)
{
    int error = (int)chrony.init_session(&socket->session, socket->fd);
    if (error != OK)
        socket->session = NULL;
    socket->number = hub->sessions++;
    return error;
}

int renew_session(struct hub *hub, struct socket *socket)
{
    chrony.deinit_session(socket->session);
    return create_session(hub, socket);
}

/* ---- Spare sessions ---- */

/* They are what makes asking thousands of daemons affordable: a new session reads 4 KiB of
   /dev/urandom, which takes longer than everything else that a single question requires. */

static int by_number(const void *one, const void *other)
{
    unsigned first = (*(struct socket *const *)one)->number;
    unsigned second = (*(struct socket *const *)other)->number;
    return (first > second) - (first < second);
}

static void close_spare(struct hub *hub, struct socket *spare)
{
    chrony.deinit_session(spare->session);
    close(spare->fd); /* close_socket() would waste time on looking for its file */
    put_away(hub, spare);
}

/* Close all spares but `left` of them, the newest first. A session has a stream for /dev/urandom,
   which fclose() looks for among all streams of the process, the newest first: closing 4,000 in
   another order takes quadratic time, which would hold up an event loop for a tenth of a second. */
static void close_spares(struct hub *hub, int left)
{
    if (hub->spared > left)
        qsort(hub->spares, (size_t)hub->spared, sizeof(*hub->spares), by_number);
    while (hub->spared > left)
        close_spare(hub, hub->spares[--hub->spared]);
}

void keep_spares(struct hub *hub, int most)
{
    if (most > hub->spare_room) {
        struct socket **spares = realloc(hub->spares, sizeof(*spares) * (size_t)most);
        if (spares != NULL) {
            hub->spares = spares;
            hub->spare_room = most;
        }
    }
    hub->most_spared = most < hub->spare_room ? most : hub->spare_room;
    close_spares(hub, hub->most_spared);
}

bool spare_socket(struct hub *hub, struct socket *socket)
{
    if (hub->spared >= hub->most_spared)
        return false;
    return_budget(socket);
    socket->owner = NULL;
    hub->spares[hub->spared++] = socket;
    return true;
}

/* Move a new socket to the descriptor of a spare one, whose session it thereby gets. NULL: no spare
   can be used. */
static struct socket *use_spare(struct hub *hub, int fd)
{
    if (hub->spared == 0)
        return NULL;
    struct socket *spare = hub->spares[hub->spared - 1];
    if (dup2(fd, spare->fd) < 0)
        return NULL;
    close(fd); /* close_socket() would delete the file of a Unix socket */
    spare->ready = spare->writing = false;
    hub->spared--;
    return spare;
}

/* ---- Opening and closing ---- */

/* libchrony's recv() and send() would block, and its socket would outlive an exec. */
static int prepare(struct hub *hub, struct socket *socket)
{
    int fd = socket->fd;
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return SHIM_UNREACHABLE;
    int error = socket->session != NULL ? OK : create_session(hub, socket);
    if (error != OK)
        return error;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = socket};
    if (hub->epoll < 0)
        hub->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (hub->epoll < 0 || epoll_ctl(hub->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        return SHIM_UNREACHABLE;
    return OK;
}

/* Let libchrony open a socket; close the spares if there are no descriptors left. */
static int open_descriptor(struct hub *hub, const char *address)
{
    int fd = chrony.open_socket(address);
    if (fd < 0 && errno == EMFILE && hub->spared > 0) {
        close_spares(hub, 0);
        fd = chrony.open_socket(address);
    }
    return fd;
}

static int open_and_prepare(struct hub *hub, const char *address, struct socket **opened)
{
    int fd = open_descriptor(hub, address);
    if (fd < 0)
        return SHIM_UNOPENED;
    struct socket *socket = use_spare(hub, fd);
    if (socket == NULL && (socket = take_memory(hub)) != NULL)
        socket->fd = fd;
    if (socket == NULL) {
        chrony.close_socket(fd);
        errno = ENOMEM;
        return NO_MEMORY;
    }
    int error = prepare(hub, socket);
    if (error == OK) {
        *opened = socket;
        return OK;
    }
    int system = errno;
    close_socket(hub, socket);
    errno = system;
    return error;
}

int open_socket(struct hub *hub, const char *address, bool more, void *owner,
                struct socket **opened)
{
    if (more && !take_budget()) {
        errno = EMFILE;
        return NO_BUDGET;
    }
    int error = open_and_prepare(hub, address, opened);
    if (error == OK) {
        (*opened)->owner = owner;
        (*opened)->further = more;
    } else if (more) {
        atomic_fetch_sub(&further, 1);
    }
    return error;
}

void close_socket(struct hub *hub, struct socket *socket)
{
    if (socket->session != NULL)
        chrony.deinit_session(socket->session);
    if (socket->fd >= 0)
        chrony.close_socket(socket->fd);
    put_away(hub, socket);
}

void leave_socket_to_parent(struct hub *hub, struct socket *socket)
{
    if (socket->session != NULL)
        chrony.deinit_session(socket->session);
    close(socket->fd); /* close_socket() would delete the parent's socket file */
    put_away(hub, socket);
}

void close_hub(struct hub *hub)
{
    if (hub->epoll >= 0)
        close(hub->epoll); /* first, so that no socket has to be removed from it */
    hub->epoll = -1;
    close_spares(hub, 0);
}

/* ---- Use ---- */

void watch_writing(const struct hub *hub, struct socket *socket, bool writing)
{
    if (socket->writing == writing)
        return;
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = socket};
    epoll_ctl(hub->epoll, EPOLL_CTL_MOD, socket->fd, &event);
    socket->writing = writing;
}

/* A socket without an owner is a spare: it is not watched any more, or a late answer would be
   reported for ever. */
void *take_event(const struct hub *hub, const struct epoll_event *event)
{
    struct socket *socket = event->data.ptr;
    socket->ready = true;
    if (socket->owner == NULL && socket->fd >= 0)
        epoll_ctl(hub->epoll, EPOLL_CTL_DEL, socket->fd, NULL);
    return socket->owner;
}

void drain_socket(const struct socket *socket)
{
    char byte;
    for (int i = 0; i < 16; i++)
        if (recv(socket->fd, &byte, 1, MSG_DONTWAIT | MSG_TRUNC) < 0 && errno == EAGAIN)
            return;
}

/* chronyd ignores empty datagrams. */
bool is_cut_off(const struct socket *socket)
{
    return send(socket->fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
           (errno == ECONNREFUSED || errno == ENOTCONN);
}
