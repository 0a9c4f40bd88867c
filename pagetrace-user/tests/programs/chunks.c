// A program whose heap has holes: threads take objects of many sizes and free every second one; each has its caches full.
//
// usage: chunks THREADS OBJECTS FILE [busy]
//
// When all is done and nobody takes or frees any more it writes what malloc_info(3) says to FILE, and a line "mallinfo2" with
// what mallinfo2(3) says of all arenas together, and prints "ready". After a
// byte on stdin it calls malloc_trim(0) and prints "done". It ends after a second one, or at the end of stdin.
// "busy": it prints "ready" while each thread goes on to free one object and take another, without a pause, and has OBJECTS of
// them; after a byte on stdin nobody does any more, and it writes the file and prints "done".
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CACHED = 7, SIZES = 64, LARGE = 64 };

static int objects;
static volatile int is_busy;
static pthread_barrier_t begun, taken, quiet;
static char info_buffer[1 << 16];

static void *take(size_t bytes) {
	char *object = malloc(bytes);
	if (object == NULL) abort();
	memset(object, 1, bytes);
	return object;
}

static void work(unsigned dice) {
	char **kept = take(objects * sizeof *kept);
	for (int i = 0; i < objects; i++) {
		dice = dice * 1103515245 + 12345;
		size_t bytes = i % LARGE == 0 ? 20000 + dice % 60000 : 1 + dice / 65536 % (i % 4 == 0 ? 3000 : 120);
		kept[i] = take(bytes);
	}
	for (int i = 0; i < objects; i += 2) free(kept[i]);
	// A long free stretch in the middle.
	for (int i = objects / 3 | 1; i < objects / 2; i += 2) free(kept[i]);
	if (is_busy) {
		for (int i = 0; i < objects; i++) kept[i] = take(1 + i % 900);
		pthread_barrier_wait(&begun);
		while (is_busy) {
			dice = dice * 1103515245 + 12345;
			int i = dice / 65536 % objects;
			free(kept[i]);
			kept[i] = take(1 + dice % 900);
		}
	}
	// What a thread puts aside is full now, of every size.
	char *aside[CACHED];
	for (int size = 0; size < SIZES; size++) {
		// A chunk may be a little larger than it has to be, and then is put aside with those of its own size.
		char *larger[LARGE];
		int others = 0;
		for (int i = 0; i < CACHED;) {
			char *object = take(24 + 16 * size);
			if (malloc_usable_size(object) == (size_t)(24 + 16 * size)) aside[i++] = object;
			else if (others < LARGE) larger[others++] = object;
			else abort();
		}
		for (int i = 0; i < others; i++) free(larger[i]);
		for (int i = 0; i < CACHED; i++) free(aside[i]);
	}
}

static void *thread(void *which) {
	work((unsigned)(size_t)which);
	pthread_barrier_wait(&taken);
	pthread_barrier_wait(&quiet);
	return NULL;
}

static void say(const char *line) {
	if (write(1, line, strlen(line)) != (ssize_t)strlen(line)) abort();
}

int main(int count, char **words) {
	if (count < 4) return 2;
	is_busy = count > 4;
	int threads = atoi(words[1]);
	objects = atoi(words[2]);
	FILE *info = fopen(words[3], "w");
	if (info == NULL) return 2;
	setvbuf(info, info_buffer, _IOFBF, sizeof info_buffer);
	pthread_barrier_init(&begun, NULL, threads + 1);
	pthread_barrier_init(&taken, NULL, threads + 1);
	pthread_barrier_init(&quiet, NULL, threads + 1);
	for (int i = 0; i < threads; i++) {
		pthread_t made;
		if (pthread_create(&made, NULL, thread, (void *)(size_t)(i + 1)) != 0) abort();
	}
	char byte;
	int was_busy = is_busy;
	if (was_busy) {
		pthread_barrier_wait(&begun);
		say("ready\n");
		if (read(0, &byte, 1) != 1) return 1;
		is_busy = 0;
	}
	work(12345);
	pthread_barrier_wait(&taken);
	// Written without a call of the allocator: the buffer is there.
	if (malloc_info(0, info) != 0) abort();
	struct mallinfo2 all = mallinfo2();
	fprintf(info, "mallinfo2 %zu %zu %zu %zu\n", all.smblks, all.fsmblks, all.ordblks, all.fordblks);
	if (fflush(info) != 0) abort();
	say(was_busy ? "done\n" : "ready\n");
	if (read(0, &byte, 1) == 1) {
		malloc_trim(0);
		say("done\n");
		while (read(0, &byte, 1) == 1) {}
	}
	_exit(0);
}
