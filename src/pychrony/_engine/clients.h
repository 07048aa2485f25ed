/*
 * Clients: the sockets and sessions to one chronyd, opened and closed. A part of shim.c.
 */

enum { MAX_SESSIONS = 16 }; /* from eight on, chronyd itself is what takes the time */

enum state {
    IDLE,    /* nothing to do */
    BLOCKED, /* a request is to be sent; chronyd's queue is full */
    WAITING, /* a request is out */
    HELD,    /* an answer is here; the caller's memory is full */
    LATER    /* chronyd is away; try again when it is time */
};

/* A socket, a session on it, and what its answer will be. */
struct link {
    int fd; /* -1: closed */
    chrony_session *session;
    bool joining; /* the request in flight is for the source's address */
    bool fresh;   /* the socket was opened for this batch, and nothing has come */
    bool ready;
    char address[STRING_SIZE];
};

struct slot {
    struct link link;
    struct link earlier; /* where the same was asked for first: its answer may be just slow */
    enum state state;
    int ask;
    int round;   /* of the ask, when this was asked */
    int record;
    int64_t again;     /* when to ask again */
    int64_t interval;  /* since it was asked last */
};

struct shim_client {
    char address[128]; /* the longest path of a Unix socket has 107 characters */
    unsigned int generation;
    int batches;
    int sessions;
    int error; /* why chronyd is away; 0 when it has answered since */
    int system;
    shim_client *next, *last;
    struct slot slots[MAX_SESSIONS];
};

static shim_client *clients; /* all there are */

static void close_link(const shim_client *client, struct link *link)
{
    if (link->session != NULL)
        chrony.deinit_session(link->session);
    if (link->fd >= 0) {
        if (client->generation == generation)
            chrony.close_socket(link->fd);
        else
            close(link->fd); /* close_socket would delete the parent's socket file */
    }
    link->session = NULL;
    link->fd = -1;
    link->ready = false;
}

static void close_slot(const shim_client *client, struct slot *slot)
{
    close_link(client, &slot->link);
    close_link(client, &slot->earlier);
    slot->state = IDLE;
}

/* Open a socket and a session on it. Returns 0, or an error with errno set. */
static int open_slot(shim_client *client, struct slot *slot)
{
    slot->link.fd = chrony.open_socket(client->address);
    if (slot->link.fd < 0)
        return SHIM_UNREACHABLE;
    /* libchrony's recv() and send() would block, and its socket would outlive an exec. */
    int flags = fcntl(slot->link.fd, F_GETFL), error = SHIM_UNREACHABLE;
    if (flags >= 0 && fcntl(slot->link.fd, F_SETFL, flags | O_NONBLOCK) == 0 &&
        fcntl(slot->link.fd, F_SETFD, FD_CLOEXEC) == 0)
        error = (int)chrony.init_session(&slot->link.session, slot->link.fd);
    slot->link.fresh = true;
    if (error == OK)
        return 0;
    int system = errno;
    slot->link.session = NULL;
    close_slot(client, slot);
    errno = system;
    return error;
}

/* Note where the socket leads, so that others are opened to the same place. */
static void note_peer(shim_client *client, int fd)
{
    if (client->address[0] == '/')
        return;
    union {
        struct sockaddr any;
        struct sockaddr_un un;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        char room[sizeof(struct sockaddr_un) + 1]; /* a path of full length has no end */
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

shim_client *shim_new(int sessions)
{
    shim_client *client = calloc(1, sizeof(*client));
    if (client == NULL)
        return NULL;
    client->sessions = sessions < MAX_SESSIONS ? sessions : MAX_SESSIONS;
    for (int i = 0; i < MAX_SESSIONS; i++)
        client->slots[i].link.fd = client->slots[i].earlier.fd = -1;
    take_lock();
    client->generation = generation;
    client->next = clients;
    if (clients != NULL)
        clients->last = client;
    clients = client;
    drop_lock();
    return client;
}

int shim_open(shim_client *client, const char *address, int *system)
{
    *system = ENOMEM;
    if (client == NULL)
        return NO_MEMORY;
    take_lock();
    snprintf(client->address, sizeof(client->address), "%s", address);
    int error = open_slot(client, &client->slots[0]);
    *system = errno;
    if (error == OK)
        note_peer(client, client->slots[0].link.fd);
    drop_lock();
    return error;
}

const char *shim_address(const shim_client *client) { return client->address; }

static void close_client(shim_client *client)
{
    for (int i = 0; i < MAX_SESSIONS; i++)
        close_slot(client, &client->slots[i]);
}

void shim_close(shim_client *client)
{
    if (client == NULL)
        return;
    take_lock();
    close_client(client);
    if (client->next != NULL)
        client->next->last = client->last;
    if (client->last != NULL)
        client->last->next = client->next;
    else
        clients = client->next;
    drop_lock();
    free(client);
}

/* At the end of the process, a thread may still be in a call: remove its files beside chronyd's
   socket too, and let it open no others. */
__attribute__((destructor)) static void close_all(void)
{
    take_lock();
    for (shim_client *client = clients; client != NULL; client = client->next) {
        close_client(client);
        client->sessions = 0;
    }
    drop_lock();
}
