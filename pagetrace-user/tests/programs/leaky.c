// Three places of fifty-five leak: one object in each round that is not freed, one that was resized before, one that another
// thread had made. One scatters a few small objects that stay among large ones that all go at the end. The others keep a few
// objects, fill a table once, or take back what they gave. Compiles as C and as C++.
//
// usage: leaky ROUNDS   says "scattered OBJECTS PAGES": the small objects, and the pages that hold one

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STANDS __attribute__((noinline, noclone))
#ifdef __cplusplus
#define TAKE(bytes) operator new(bytes)
#define GIVE(object) operator delete(object)
#else
#define TAKE(bytes) malloc(bytes)
#define GIVE(object) free(object)
#endif

static void *volatile seen;

STANDS static void *leak_plain(void)
{
	void *object = TAKE(700); // LEAK plain
	seen = object;
	return object;
}

STANDS static void *leak_resized(void)
{
	void *object = malloc(100);
	object = realloc(object, 900); // LEAK resized
	seen = object;
	return object;
}

static void *handed;

STANDS static void *leak_elsewhere(void *unused)
{
	(void)unused;
	handed = TAKE(500); // LEAK elsewhere
	seen = handed;
	return handed;
}

#define PAIRS 4
#define SCATTERED 40
#define MOST_SCATTERED (1 << 16)

static void *scattered[MOST_SCATTERED];
static size_t scattered_count;

STANDS static void scatter(void)
{
	void *object = TAKE(SCATTERED); // FRAG
	scattered[scattered_count++] = object;
}

static void *batch;

STANDS static void honest_batch(void)
{
	void *object = TAKE(4000);
	*(void **)object = batch;
	batch = object;
}

STANDS static void end_batch(void)
{
	while (batch) {
		void *next = *(void **)batch;
		GIVE(batch);
		batch = next;
	}
}

static int by_address(const void *a, const void *b)
{
	uintptr_t one = *(const uintptr_t *)a, other = *(const uintptr_t *)b;
	return (one > other) - (one < other);
}

STANDS static void tell_scattered(void)
{
	size_t pages = 0;
	uintptr_t last = 0;
	qsort(scattered, scattered_count, sizeof(void *), by_address);
	for (size_t at = 0; at < scattered_count; at++)
		for (uintptr_t byte = 0; byte < SCATTERED; byte += SCATTERED - 1) {
			uintptr_t page = ((uintptr_t)scattered[at] + byte) >> 12;
			pages += page != last;
			last = page;
		}
	printf("scattered %zu %zu\n", scattered_count, pages);
}

#define KEPT 3

// Takes back what it gave KEPT rounds ago, and what it has at the end.
#define RING(n)                                                                                                      \
	STANDS static void honest_##n(int round, int last)                                                               \
	{                                                                                                                \
		static void *kept[KEPT];                                                                                     \
		void **place = &kept[round % KEPT];                                                                          \
		GIVE(*place);                                                                                                \
		*place = TAKE(100 + 40 * n);                                                                                 \
		seen = *place;                                                                                               \
		if (last && n % 2)                                                                                           \
			for (int at = 0; at < KEPT; at++)                                                                        \
				GIVE(kept[at]);                                                                                      \
	}

// A table that is filled in the first rounds, and stays.
#define TABLE(n)                                                                                                     \
	STANDS static void honest_##n(int round, int last)                                                               \
	{                                                                                                                \
		(void)last;                                                                                                  \
		if (round < 5)                                                                                               \
			seen = TAKE(20000 + n);                                                                                  \
		void *soon = TAKE(64 + n);                                                                                   \
		seen = soon;                                                                                                 \
		GIVE(soon);                                                                                                  \
	}

#define TEN(KIND, t) KIND(t##0) KIND(t##1) KIND(t##2) KIND(t##3) KIND(t##4) KIND(t##5) KIND(t##6) KIND(t##7) KIND(t##8) KIND(t##9)
#define CALL_TEN(t)                                                                                                  \
	honest_##t##0(round, last), honest_##t##1(round, last), honest_##t##2(round, last), honest_##t##3(round, last),  \
		honest_##t##4(round, last), honest_##t##5(round, last), honest_##t##6(round, last),                          \
		honest_##t##7(round, last), honest_##t##8(round, last), honest_##t##9(round, last)

TEN(RING, 1)
TEN(RING, 2)
TEN(RING, 3)
TEN(TABLE, 4)
TEN(TABLE, 5)

int main(int count, char **words)
{
	int rounds = count > 1 ? atoi(words[1]) : 200;
	for (int round = 0; round < rounds; round++) {
		int last = round == rounds - 1;
		CALL_TEN(1), CALL_TEN(2), CALL_TEN(3), CALL_TEN(4), CALL_TEN(5);
		for (int pair = 0; pair < PAIRS && scattered_count < MOST_SCATTERED; pair++)
			honest_batch(), scatter();
		leak_plain();
		leak_resized();
		pthread_t thread;
		if (pthread_create(&thread, NULL, leak_elsewhere, NULL) || pthread_join(thread, NULL))
			return 1;
		struct timespec pause = {0, 1000000};
		nanosleep(&pause, NULL);
	}
	end_batch();
	tell_scattered();
	return 0;
}
