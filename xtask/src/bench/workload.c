// What is measured. Says "ready", then does one round for each line on stdin and prints what a single act cost in ns.
//
//   workload touch PAGES CPU      touches new pages, gives them back:  "<ns a touch> <ns a touch and its give-back>"
//   workload syscall CALLS CPU    getppid, which does next to nothing: "<ns a call>"
//   workload malloc PAIRS CPU     malloc and free:                     "<ns a pair>"
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, SPAN = 4096 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: workload touch|syscall|malloc COUNT CPU\n");
        return 2;
    }
    long count = atol(argv[2]);
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(atoi(argv[3]), &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus)) fail("sched_setaffinity");

    char *pages = mmap(0, (size_t)SPAN * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) fail("mmap");
    if (madvise(pages, (size_t)SPAN * PAGE, MADV_NOHUGEPAGE)) fail("madvise");

    printf("ready\n");
    fflush(stdout);
    char line[16];
    while (fgets(line, sizeof line, stdin)) {
        double start = now();
        if (!strcmp(argv[1], "touch")) {
            double touching = 0;
            for (long done = 0; done < count; done += SPAN) {
                double from = now();
                for (long page = 0; page < SPAN; page++) ((volatile char *)pages)[page * PAGE] = 1;
                touching += now() - from;
                if (madvise(pages, (size_t)SPAN * PAGE, MADV_DONTNEED)) fail("madvise");
            }
            printf("%f %f\n", touching / count, (now() - start) / count);
        } else if (!strcmp(argv[1], "syscall")) {
            for (long call = 0; call < count; call++) syscall(SYS_getppid);
            printf("%f\n", (now() - start) / count);
        } else {
            for (long pair = 0; pair < count; pair++) {
                void *volatile object = malloc(64);
                free(object);
            }
            printf("%f\n", (now() - start) / count);
        }
        fflush(stdout);
    }
    return 0;
}
