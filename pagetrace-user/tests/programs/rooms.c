// Makes and fills memory at places that are known by name, built as distributions build: optimised, without frame pointers.
//
// Prints "ready" when all is done, and ends when its stdin does.

#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096
// Not inlined, and not left by a jump: it stands on the stack.
#define STANDS __attribute__((noinline, noclone, noipa))
#define HERE __asm__ volatile("" ::: "memory")

static inline __attribute__((always_inline)) void touch(char *at, int pages)
{
	for (int page = 0; page < pages; page++)
		*(volatile char *)(at + page * PAGE) = 1;
}

STANDS static char *make_room(int pages)
{
	char *room = mmap(NULL, (size_t)pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (room == MAP_FAILED || madvise(room, (size_t)pages * PAGE, MADV_NOHUGEPAGE))
		_exit(1);
	HERE;
	return room;
}

STANDS static char *north(void)
{
	char *room = make_room(300);
	HERE;
	return room;
}

STANDS static char *south(void)
{
	char *room = make_room(64);
	HERE;
	return room;
}

STANDS static void fill_north(char *room)
{
	touch(room, 200);
	HERE;
}

STANDS static void fill_south(char *room, int pages)
{
	// A frame of several pages.
	volatile char much[3 * PAGE];
	much[0] = much[sizeof much - 1] = 1;
	touch(room, pages);
	HERE;
}

STANDS static void fill_deep(char *room, int depth)
{
	if (depth > 0)
		fill_deep(room, depth - 1);
	else
		touch(room, 10);
	HERE;
}

STANDS static void give_back(char *room)
{
	if (madvise(room, 32 * PAGE, MADV_DONTNEED))
		_exit(1);
	HERE;
}

STANDS static void fill_again(char *room)
{
	touch(room, 16);
	HERE;
}

STANDS static void *in_thread(void *room)
{
	fill_south((char *)room + 200 * PAGE, 90);
	fill_deep((char *)room + 290 * PAGE, 40);
	HERE;
	return NULL;
}

int main(void)
{
	char *room = north();
	fill_north(room);
	pthread_t thread;
	if (pthread_create(&thread, NULL, in_thread, room) || pthread_join(thread, NULL))
		return 1;
	room = south();
	fill_south(room, 64);
	give_back(room);
	fill_again(room);
	puts("ready");
	fflush(stdout);
	char rest[64];
	while (read(0, rest, sizeof rest) > 0)
		;
	return 0;
}
