/*
 * Third layer (sockets.c): sockets with libchrony sessions on them. Each costs two descriptors,
 * since libchrony opens /dev/urandom for each session.
 */
#pragma once
#include "libchrony.h"

struct epoll_event;

/* epoll's events point to it. */
struct socket {
    int fd; /* negative: closed */
    chrony_session *session;
    void *owner;  /* what take_event() returns for its events */
    bool further; /* it is part of the budget */
    bool ready;   /* epoll has reported it */
    bool writing; /* epoll also watches for it becoming writable */
};

/* What all sockets of a loop share. */
struct hub {
    int epoll;      /* -1 until the first socket is opened */
    bool inherited; /* in a forked child: the sockets are the parent's, so leave their files */
    int64_t closed; /* the number of sockets closed so far */
};

/* Close epoll's descriptor. All sockets of the hub must be closed already. */
void close_hub(struct hub *hub);

/* Open a socket to `address` with a session on it, watched by epoll. A `further` socket is part of
   the budget. Returns 0, or an error with errno set. */
int open_socket(struct hub *hub, const char *address, bool further, void *owner,
                struct socket *socket);

/* The error of open_socket() if the budget is used up, for now. */
enum { NO_BUDGET = -2 };

/* Half of the budget is reserved for distant daemons, which need a socket for each request. Returns
   how many sockets may still be opened for nearby ones; a negative number is how many idle sockets
   should be closed. */
int64_t budget_to_spare(void);

void close_socket(struct hub *hub, struct socket *socket);

/* Set whether epoll also watches for the socket becoming writable. */
void watch_writing(const struct hub *hub, struct socket *socket, bool writing);

/* Note an event, but only if no socket of the hub has been closed since the wait began: the event
   points to its socket. Returns the owner. */
void *take_event(const struct epoll_event *event);

/* Discard a datagram, which epoll would otherwise report for ever. */
void drain_socket(const struct socket *socket);

/* Whether the chronyd at the other end of a Unix socket has closed its own. */
bool is_cut_off(const struct socket *socket);
