// A process whose memory grows and shrinks in one way by its first argument, and then stands still.
//
// usage: touch mixed DIR | thp | scattered | shmem | cow | sleep BYTES | named NAME | morph
//
// Prints "ready", acts after one byte on stdin, prints "done", and ends after a second byte (or at the end of stdin).
// "at HEX BYTES" on stdout names a range that it made, "child PID" a process.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL
#define HUGE (2UL << 20)
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static void die(const char *what)
{
	fprintf(stderr, "touch: %s: %s\n", what, strerror(errno));
	exit(1);
}

static char *map(size_t bytes, int flags, int fd)
{
	char *p = mmap(NULL, bytes, RW, flags, fd, 0);
	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static void each_page(char *from, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += PAGE)
		((volatile char *)from)[i] = 1;
}

static void say_range(const char *from, size_t bytes)
{
	printf("at %lx %zu\n", (unsigned long)from, bytes);
	fflush(stdout);
}

static void say(const char *text)
{
	puts(text);
	fflush(stdout);
}

// False when there is nobody left to wait for.
static int await(void)
{
	char byte;
	return read(0, &byte, 1) == 1;
}

static void deep(int levels)
{
	volatile char here[PAGE];
	here[0] = 1;
	if (levels > 0)
		deep(levels - 1);
	here[1] = here[0];
}

static void mixed(const char *dir)
{
	char *blocks[64];
	for (int i = 0; i < 64; i++) {
		blocks[i] = malloc(40000);
		memset(blocks[i], i, 40000);
	}
	for (int i = 0; i < 64; i += 2)
		free(blocks[i]);
	deep(50);

	char *p = map(8 << 20, ANON, -1);
	each_page(p, 8 << 20);
	madvise(p + (1 << 20), 2 << 20, MADV_DONTNEED);
	munmap(p + (5 << 20), 1 << 20);
	each_page(p + (1 << 20), 64 * PAGE);
	for (int i = 0; i < 200; i++) // the zero page is not counted
		(void)((volatile char *)p)[(2 << 20) + (unsigned)i * PAGE];
	p = mremap(p, 1 << 20, 3 << 20, MREMAP_MAYMOVE);
	if (p == MAP_FAILED)
		die("mremap");
	each_page(p, 2 << 20);

	char path[4096];
	snprintf(path, sizeof path, "%s/mixed.data", dir);
	int fd = open(path, O_RDWR | O_CREAT, 0644);
	if (fd < 0 || ftruncate(fd, 4 << 20))
		die(path);
	char *shared = map(4 << 20, MAP_SHARED, fd), *copied = map(4 << 20, MAP_PRIVATE, fd);
	each_page(shared, 1 << 20);
	each_page(copied + (1 << 20), 1 << 20);
	for (size_t i = 0; i < 1 << 20; i += PAGE)
		(void)*(volatile char *)(copied + i);
	char *filled = mmap(NULL, 1 << 20, RW, ANON | MAP_POPULATE, -1, 0);
	if (filled == MAP_FAILED || madvise(filled, 100 * PAGE, MADV_FREE))
		die("populate");
	char *kept = map(300 * PAGE, ANON, -1);
	each_page(kept, 300 * PAGE);
	say_range(kept, 300 * PAGE);
}

static void thp(void)
{
	char *p = map(18 << 20, ANON, -1);
	char *start = (char *)(((unsigned long)p + HUGE - 1) & ~(HUGE - 1));
	if (madvise(start, 16 << 20, MADV_HUGEPAGE))
		die("MADV_HUGEPAGE");
	each_page(start, 16 << 20);
	madvise(start + HUGE + 16 * PAGE, 100 * PAGE, MADV_DONTNEED); // splits one
	munmap(start + 3 * HUGE + HUGE / 2, HUGE / 2);                 // and another
	say_range(start + 5 * HUGE, 2 * HUGE);
}

static void scattered(void)
{
	char *p = map(12 << 20, ANON, -1);
	for (size_t i = 0; i < 12 << 20; i += 2 * PAGE)
		((volatile char *)p)[i] = 1;
	for (size_t i = 0; i < 6 << 20; i += 6 * PAGE)
		madvise(p + i, PAGE, MADV_DONTNEED);
	say_range(p, 12 << 20);
}

static void shmem(void)
{
	char *p = map(4 << 20, MAP_SHARED | MAP_ANONYMOUS, -1);
	each_page(p, 3 << 20);
	madvise(p, 1 << 20, MADV_REMOVE);
	int id = shmget(IPC_PRIVATE, 2 << 20, IPC_CREAT | 0600);
	char *s = shmat(id, NULL, 0);
	if (id < 0 || s == (void *)-1)
		die("shmat");
	shmctl(id, IPC_RMID, NULL);
	each_page(s, 1 << 20);
	int fd = memfd_create("touch-shmem", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 2 << 20))
		die("memfd");
	char *m = map(2 << 20, MAP_SHARED, fd);
	each_page(m, 2 << 20);
	each_page(map(2 << 20, MAP_PRIVATE, fd), 1 << 20); // copies of shared memory are anonymous
	say_range(m, 2 << 20);
}

static void cow(void)
{
	char *p = map(8 << 20, ANON, -1);
	each_page(p, 8 << 20);
	int ends[2];
	if (pipe(ends))
		die("pipe");
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		each_page(p, 3 << 20);
		madvise(p + (6 << 20), 1 << 20, MADV_DONTNEED);
		if (write(ends[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	each_page(p + (2 << 20), 3 << 20);
	char byte;
	if (read(ends[0], &byte, 1) != 1)
		die("child");
	printf("child %d\n", child);
	say_range(p, 8 << 20);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "", *argument = argc > 2 ? argv[2] : "";
	if (strcmp(mode, "after") == 0) { // what "morph" becomes
		char *p = map(119 * PAGE, ANON, -1);
		each_page(p, 119 * PAGE);
		say_range(p, 119 * PAGE);
		say("done");
		await();
		return 0;
	}
	char *bed = NULL;
	size_t bed_bytes = 0;
	if (strcmp(mode, "sleep") == 0) {
		bed_bytes = strtoul(argument, NULL, 0);
		bed = map(bed_bytes, ANON, -1);
		say_range(bed, bed_bytes);
	}
	say("ready");
	if (!await())
		return 0;
	if (strcmp(mode, "mixed") == 0) {
		mixed(argument);
	} else if (strcmp(mode, "thp") == 0) {
		thp();
	} else if (strcmp(mode, "scattered") == 0) {
		scattered();
	} else if (strcmp(mode, "shmem") == 0) {
		shmem();
	} else if (strcmp(mode, "cow") == 0) {
		cow();
	} else if (strcmp(mode, "sleep") == 0) {
		each_page(bed, bed_bytes / 2);
	} else if (strcmp(mode, "named") == 0) {
		prctl(PR_SET_NAME, argument);
		char *p = map(117 * PAGE, ANON, -1);
		each_page(p, 117 * PAGE);
		say_range(p, 117 * PAGE);
	} else if (strcmp(mode, "morph") == 0) {
		execl("/proc/self/exe", "morph-after", "after", (char *)NULL);
		die("exec");
	} else {
		return 2;
	}
	say("done");
	await();
	return 0;
}
