// Three places of fifty-three leak: one object in each round that is not freed, one that was resized before, one that another
// thread had made. The others keep a few objects, fill a table once, or take back what they gave. Compiles as C and as C++.
//
// usage: leaky ROUNDS

#include <pthread.h>
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
		leak_plain();
		leak_resized();
		pthread_t thread;
		if (pthread_create(&thread, NULL, leak_elsewhere, NULL) || pthread_join(thread, NULL))
			return 1;
		struct timespec pause = {0, 1000000};
		nanosleep(&pause, NULL);
	}
	return 0;
}
