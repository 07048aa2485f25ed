/*
 * Drives the engine from many threads at once, which fork too, for ThreadSanitizer to watch.
 *
 *     races LIBCHRONY ADDRESS...
 *
 * Each thread opens clients, asks, and frees them, now and then after another thread has driven
 * them; few descriptors keep the budget of sockets short. `tools/run sanitize --thread` runs it.
 */
#include "batch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 8, CLIENTS = 3, TURNS = 30, FORKS = 40 };

static char **addresses;
static int places, sources, sourcestats, authdata, tracking;
static atomic_int failures, over;

static void expect(bool true_so, const char *what)
{
    if (!true_so) {
        fprintf(stderr, "not so: %s\n", what);
        failures++;
    }
}

static int report(const char *name)
{
    int number = 0;
    while (shim_report(number) != NULL && strcmp(shim_report(number), name) != 0)
        number++;
    return number;
}

static void ask(shim_loop *loop, shim_client *client)
{
    const shim_ask asks[] = {
        {.report = tracking},
        {.report = sources, .flags = SHIM_SOURCES},
        {.report = sourcestats, .flags = SHIM_SOURCES | SHIM_ADDRESSES},
        {.report = authdata, .flags = SHIM_SOURCES | SHIM_ADDRESSED | SHIM_JOINED},
    };
    expect(shim_start(client, asks, 4, 30 * (int64_t)SECOND, 0) >= 0, "a batch begins");
    while (shim_batch_of(client)->running)
        shim_run(loop, 50 * MILLISECOND);
    const shim_batch *batch = shim_batch_of(client);
    for (int i = 0; i < 3; i++)
        expect(batch->asks[i].error == 0, "a report comes");
    expect(batch->asks[2].records == batch->asks[1].records, "the lists are as long");
    while (shim_finished(loop) >= 0)
        continue;
}

static shim_client *open_client(shim_loop *loop, int number)
{
    shim_client *client = shim_client_new();
    int system;
    expect(shim_open(client, loop, addresses[number % places], KEPT, &system) == 0,
           "a client opens");
    return client;
}

static void *use(void *data)
{
    int number = (int)(intptr_t)data;
    for (int turn = 0; turn < TURNS; turn++) {
        shim_loop *loop = shim_loop_new();
        shim_client *clients[CLIENTS];
        for (int i = 0; i < CLIENTS; i++)
            clients[i] = open_client(loop, number + i);
        for (int i = 0; i < 2 * CLIENTS; i++)
            ask(loop, clients[i % CLIENTS]);
        shim_loop_free(loop);
        for (int i = 0; i < CLIENTS; i++)
            shim_client_free(clients[i]);
    }
    return NULL;
}

/* Free clients of a loop that another thread waits in. */
static void *wait_in(void *data)
{
    while (!over)
        shim_run(data, 5 * MILLISECOND);
    return NULL;
}

static void free_beside_a_wait(void)
{
    pthread_t waiting;
    shim_loop *loop = shim_loop_new();
    pthread_create(&waiting, NULL, wait_in, loop);
    const shim_ask asks[] = {{.report = tracking}};
    for (int turn = 0; turn < 10 * TURNS; turn++) {
        shim_client *client = open_client(loop, turn);
        shim_start(client, asks, 1, SECOND, 0);
        shim_run(loop, 0);
        shim_client_free(client);
    }
    over = 1;
    pthread_join(waiting, NULL);
    shim_loop_free(loop);
}

static void *fork_again_and_again(void *data)
{
    shim_loop *loop = shim_loop_new();
    shim_client *client = open_client(loop, 0);
    (void)data;
    for (int i = 0; i < FORKS; i++) {
        pid_t child = fork();
        if (child == 0) {
            ask(loop, client);
            shim_client_free(client);
            _exit(failures != 0);
        }
        int status = -1;
        waitpid(child, &status, 0);
        expect(status == 0, "a child asks");
        ask(loop, client);
    }
    shim_client_free(client);
    shim_loop_free(loop);
    return NULL;
}

static void *load(void *library)
{
    char reason[512];
    expect(shim_load(library, reason, sizeof(reason)) == 0, "libchrony is loaded");
    return NULL;
}

int main(int count, char **arguments)
{
    pthread_t threads[THREADS], forking;
    if (count < 3)
        return 2;
    addresses = arguments + 2;
    places = count - 2;
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, load, arguments[1]);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    sources = report("sources");
    sourcestats = report("sourcestats");
    authdata = report("authdata");
    tracking = report("tracking");
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){256, 256});
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, use, (void *)(intptr_t)i);
    pthread_create(&forking, NULL, fork_again_and_again, NULL);
    free_beside_a_wait();
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_join(forking, NULL);
    return failures != 0;
}
