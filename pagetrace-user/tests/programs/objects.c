// Calls each function of the C library's allocator a known number of times.
//
// Without arguments, of 1000 objects every tenth stays: "leaks OBJECTS BYTES" is said at the end. With "many COUNT SEED",
// COUNT objects of sizes from 1 byte to 64 KiB, small ones the more often; nothing is freed. With "threads", objects that
// one thread gets and another gives back, and their addresses get used again at once. With "fail", requests that no
// allocator fulfils. With "nothing", none of all that. With "attach", waits for a line before each round of what the first does.
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OBJECTS = 1000 };

static void round_of_calls(void) {
    static void *volatile object[OBJECTS];
    size_t leaked = 0;
    for (int i = 0; i < OBJECTS; i++)
        object[i] = malloc(100 + i);
    for (int i = 0; i < OBJECTS; i += 2)
        object[i] = realloc(object[i], 5000 + i);
    for (int i = 0; i < OBJECTS; i++) {
        if (i % 10)
            free(object[i]);
        else
            leaked += i % 2 ? 100 + i : 5000 + i;
    }
    void *volatile aligned = NULL;
    if (posix_memalign((void **)&aligned, 64, 1000))
        exit(1);
    free(aligned);
    free(memalign(256, 333));
    free(aligned_alloc(64, 640));
    free(valloc(10));
#ifdef __GLIBC__
    // jemalloc has none, and cannot take back glibc's.
    const char *preload = getenv("LD_PRELOAD");
    if (!preload || !strstr(preload, "jemalloc"))
        free(pvalloc(10));
#endif
    free(reallocarray(NULL, 10, 20));
    free(realloc(NULL, 77));
    free(calloc(11, 13));
    free(NULL);
    printf("leaks %d %zu\n", OBJECTS / 10, leaked);
    fflush(stdout);
}

static void many(long count, unsigned seed) {
    size_t bytes = 0;
    for (long i = 0; i < count; i++) {
        size_t size = 1 + ((size_t)rand_r(&seed) & ((1u << (rand_r(&seed) % 17)) - 1));
        void *volatile object = malloc(size);
        memset(object, 1, 1);
        bytes += size;
    }
    printf("leaks %ld %zu\n", count, bytes);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *volatile handed[64];

static void *swap(void *seed) {
    unsigned state = (unsigned)(size_t)seed;
    for (int i = 0; i < 20000; i++) {
        void *mine = malloc(16 + rand_r(&state) % 100), *other;
        if (i % 3 == 0)
            mine = realloc(mine, 200 + rand_r(&state) % 100);
        int place = rand_r(&state) % 64;
        pthread_mutex_lock(&lock);
        other = handed[place];
        handed[place] = mine;
        pthread_mutex_unlock(&lock);
        free(other);
    }
    return NULL;
}

static void threads(void) {
    pthread_t thread[4];
    for (size_t i = 0; i < 4; i++)
        pthread_create(&thread[i], NULL, swap, (void *)(i + 1));
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    int left = 0;
    for (int i = 0; i < 64; i++) {
        left += handed[i] != NULL;
        free(handed[i]);
    }
    printf("leaks 0 0 after %d\n", left);
}

static void fail(void) {
    volatile size_t huge = (size_t)1 << 60;
    void *object = malloc(500);
    if (malloc(huge) || calloc(huge, 1) || realloc(object, huge))
        exit(1);
    printf("leaks 1 500\n");
}

int main(int argc, char **argv) {
    // The buffer of stdout would be an object too.
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc > 3 && !strcmp(argv[1], "many")) {
        many(atol(argv[2]), (unsigned)atol(argv[3]));
    } else if (argc > 1 && !strcmp(argv[1], "threads")) {
        threads();
    } else if (argc > 1 && !strcmp(argv[1], "fail")) {
        fail();
    } else if (argc > 1 && !strcmp(argv[1], "attach")) {
        printf("ready\n");
        while (getchar() != EOF) {
            round_of_calls();
            printf("done\n");
        }
    } else if (argc < 2) {
        round_of_calls();
    }
    return 0;
}
