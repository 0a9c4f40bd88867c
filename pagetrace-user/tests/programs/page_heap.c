// A program that keeps the page heap of its allocator busy: blocks of many sizes come and go in four threads, some of them
// aligned; then memory is given back to the kernel, and some is taken again.
//
// usage: page_heap ROUNDS now|aggressive|wait|busy|hold FILE
//
// "wait": takes blocks, prints "ready"; after one byte on stdin takes one block more and prints "took"; after a second acts
// and prints "done"; ends after a third. "now": acts and ends. "aggressive": the same, and what is free is given back at
// once. "busy": takes and gives blocks from before it prints "ready" until a byte comes on stdin; then prints "done" and ends
// after a second. "hold", with any allocator: prints "ready" and ends after one byte. Otherwise, whenever it has done one
// thing it appends to FILE what the allocator's own books say (gperftools' MallocExtension_GetNumericProperty), in bytes and
// calls, and between which two moments (of the kernel's monotonic clock, ns) they said it: a line
// "HEAP FREE UNMAPPED RESERVES DECOMMITS FROM TO".
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

extern int MallocExtension_GetNumericProperty(const char *property, size_t *value) __attribute__((weak));
extern int MallocExtension_SetNumericProperty(const char *property, size_t value) __attribute__((weak));
extern void MallocExtension_ReleaseFreeMemory(void) __attribute__((weak));
extern void MallocExtension_ReleaseToSystem(size_t bytes) __attribute__((weak));

enum { THREADS = 4, KEPT = 512 };

static char *kept[THREADS][KEPT];
static int rounds;
static int file;
static volatile int is_busy;

static unsigned long long now(void) {
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static size_t property(const char *name) {
	size_t value = 0;
	if (MallocExtension_GetNumericProperty == NULL || !MallocExtension_GetNumericProperty(name, &value)) abort();
	return value;
}

// Nothing here asks the allocator for memory.
static void say(void) {
	unsigned long long from = now();
	size_t heap = property("generic.heap_size"), idle = property("tcmalloc.pageheap_free_bytes");
	size_t unmapped = property("tcmalloc.pageheap_unmapped_bytes");
	size_t reserves = property("tcmalloc.pageheap_reserve_count"), decommits = property("tcmalloc.pageheap_decommit_count");
	char line[256];
	int length = snprintf(line, sizeof line, "%zu %zu %zu %zu %zu %llu %llu\n", heap, idle, unmapped, reserves, decommits,
	                      from, now());
	if (write(file, line, length) != length) abort();
}

static void *work(void *which) {
	size_t thread = (size_t)which;
	unsigned dice = 12345 + thread;
	for (int round = 0; round < rounds || is_busy; round++) {
		dice = dice * 1103515245 + 12345;
		char **block = &kept[thread][(dice >> 16) % KEPT];
		size_t bytes = (size_t)1 << (4 + (dice >> 8) % 18);
		bytes += bytes / 3;
		free(*block);
		if (is_busy && round % 200 == 0 && MallocExtension_ReleaseToSystem) {
			*block = NULL;
			MallocExtension_ReleaseToSystem(1 << 20);
		} else if (round % 50 == 7) {
			if (posix_memalign((void **)block, (size_t)4096 << round % 5, bytes) != 0) abort();
		} else if (round % 50 == 8) {
			*block = realloc(malloc(bytes / 2), bytes);
		} else {
			*block = malloc(bytes);
		}
		if (*block) memset(*block, 1, bytes < 100 ? bytes : 100);
	}
	return NULL;
}

static void fill(void) {
	pthread_t threads[THREADS];
	char byte;
	for (size_t thread = 0; thread < THREADS; thread++) pthread_create(&threads[thread], NULL, work, (void *)thread);
	if (is_busy) is_busy = write(1, "ready\n", 6) != 6 || read(0, &byte, 1) != 1;
	for (size_t thread = 0; thread < THREADS; thread++) pthread_join(threads[thread], NULL);
}

static void act(void) {
	fill();
	say();
	for (int at = 0; at < THREADS * KEPT; at++) {
		if (at % 3 != 0) {
			free(kept[0][at]);
			kept[0][at] = NULL;
		}
	}
	say();
	if (MallocExtension_ReleaseToSystem) MallocExtension_ReleaseToSystem(8 << 20);
	say();
	if (MallocExtension_ReleaseFreeMemory) MallocExtension_ReleaseFreeMemory();
	say();
	fill();
	say();
}

int main(int argc, char **argv) {
	if (argc != 4) return 2;
	rounds = atoi(argv[1]);
	file = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
	if (file < 0) return 1;
	char byte;
	if (strcmp(argv[2], "hold") == 0) return write(1, "ready\n", 6) != 6 || read(0, &byte, 1) < 0;
	if (strcmp(argv[2], "aggressive") == 0) MallocExtension_SetNumericProperty("tcmalloc.aggressive_memory_decommit", 1);
	if (strcmp(argv[2], "wait") == 0) {
		fill();
		say();
		if (write(1, "ready\n", 6) != 6 || read(0, &byte, 1) != 1) return 1;
		char *volatile block = malloc(4 << 20);
		if (block == NULL || write(1, "took\n", 5) != 5 || read(0, &byte, 1) != 1) return 1;
	}
	is_busy = strcmp(argv[2], "busy") == 0;
	if (is_busy) {
		fill();
		say();
	} else {
		act();
	}
	if (strcmp(argv[2], "wait") != 0 && strcmp(argv[2], "busy") != 0) return 0;
	return write(1, "done\n", 5) != 5 || read(0, &byte, 1) < 0;
}
