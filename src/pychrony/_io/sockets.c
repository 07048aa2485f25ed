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

static int64_t budget(void)
{
    struct rlimit limit = {0};
    getrlimit(RLIMIT_NOFILE, &limit);
    return (int64_t)(limit.rlim_cur / 8);
}

int64_t budget_to_spare(void) { return budget() / 2 - further; }

/* ---- Opening and closing ---- */

/* libchrony's recv() and send() would block, and its socket would outlive an exec. */
static int prepare(struct hub *hub, struct socket *socket)
{
    int fd = socket->fd;
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return SHIM_UNREACHABLE;
    int error = (int)chrony.init_session(&socket->session, fd);
    if (error != OK)
        return error;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = socket};
    if (hub->epoll < 0)
        hub->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (hub->epoll < 0 || epoll_ctl(hub->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        return SHIM_UNREACHABLE;
    return OK;
}

int open_socket(struct hub *hub, const char *address, bool more, void *owner,
                struct socket *socket)
{
    if (atomic_fetch_add(&further, more) >= budget() && more) {
        atomic_fetch_sub(&further, 1);
        errno = EMFILE;
        return NO_BUDGET;
    }
    *socket = (struct socket){.fd = chrony.open_socket(address), .owner = owner, .further = more};
    int error = socket->fd >= 0 ? prepare(hub, socket) : SHIM_UNOPENED, system = errno;
    if (error != OK)
        close_socket(hub, socket);
    errno = system;
    return error;
}

void close_socket(struct hub *hub, struct socket *socket)
{
    if (socket->session != NULL)
        chrony.deinit_session(socket->session);
    if (hub->inherited) {
        close(socket->fd); /* libchrony would also delete the parent's socket file */
    } else if (socket->fd >= 0) {
        /* Otherwise, its events would go on while a new process holds a copy, until its exec. */
        epoll_ctl(hub->epoll, EPOLL_CTL_DEL, socket->fd, NULL);
        chrony.close_socket(socket->fd);
    }
    atomic_fetch_sub(&further, socket->further);
    *socket = (struct socket){.fd = -1};
    hub->closed++;
}

void close_hub(struct hub *hub)
{
    if (hub->epoll >= 0)
        close(hub->epoll);
    hub->epoll = -1;
    hub->inherited = false;
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

void *take_event(const struct epoll_event *event)
{
    struct socket *socket = event->data.ptr;
    socket->ready = true;
    return socket->owner;
}

void drain_socket(const struct socket *socket)
{
    char byte;
    recv(socket->fd, &byte, 1, MSG_DONTWAIT);
}

/* Tries to send an empty datagram, which chronyd ignores. */
bool is_cut_off(const struct socket *socket)
{
    return send(socket->fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
           (errno == ECONNREFUSED || errno == ENOTCONN);
}
