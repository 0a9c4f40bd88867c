// A process that gives nearly all of its huge pages back, and then sleeps while the kernel fills them again.
//
// usage: asleep BLOCKS     (of 2 MiB)
//
// Prints "ready"; after one byte on stdin touches all of it, gives back all but one page of each block, prints
// "at HEX BYTES" and "done"; ends after a second byte.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096UL
#define HUGE (2UL << 20)

static void await(void)
{
	char byte;
	if (read(0, &byte, 1) != 1)
		_exit(0);
}

int main(int argc, char **argv)
{
	unsigned long blocks = argc > 1 ? strtoul(argv[1], NULL, 0) : 48;
	puts("ready");
	fflush(stdout);
	await();
	char *p = mmap(NULL, (blocks + 1) * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return 1;
	char *start = (char *)(((unsigned long)p + HUGE - 1) & ~(HUGE - 1));
	if (madvise(start, blocks * HUGE, MADV_HUGEPAGE))
		return 1;
	for (unsigned long i = 0; i < blocks * HUGE; i += PAGE)
		((volatile char *)start)[i] = 1;
	for (unsigned long i = 0; i < blocks; i++)
		if (madvise(start + i * HUGE + PAGE, HUGE - PAGE, MADV_DONTNEED))
			return 1;
	printf("at %lx %lu\ndone\n", (unsigned long)start, blocks * HUGE);
	fflush(stdout);
	await();
	return 0;
}
