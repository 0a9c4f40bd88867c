// A process that acts on its own memory in every way the vma and page layers know, and logs what it did.
//
// usage: acts LOGDIR THREADS CHILDREN now|wait
//
// With THREADS 0 the main thread acts, else THREADS threads do. Then CHILDREN forked processes act, each in its main thread.
// "wait": prints "ready", acts after one byte on stdin, prints "done", ends after a second byte. "now": acts and ends.
//
// LOGDIR/PID.log, one line an act, in the order of each thread; all numbers hexadecimal but errno, tid and times:
//   C tid before_ns after_ns call a0 a1 a2 a3 a4 a5 ret     a system call (ret: result, or -errno)
//   T tid before_ns after_ns addr r|w|x u|k anon|shmem|file|none   one touch that must fault: access, user or kernel mode,
//                                                            what kind of frame it must bring (none: no new frame)
// The first and last act of each thread is an mprotect of a page that only it uses: what the thread does between
// those two is exactly what the log says. A log stands in memory touched beforehand, until all is over.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define LOG_BYTES (64 * 1024UL)
#define STACK_BYTES (128 * 1024UL)
#define MAX_THREADS 64

struct actor {
	int number, moves_brk;
	pid_t tid;
	char *marker, *log;
	size_t used;
};

static int data_fd, code_fd;
static pthread_barrier_t barrier;

static void die(const char *what)
{
	fprintf(stderr, "acts: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000UL + (uint64_t)t.tv_nsec;
}

__attribute__((format(printf, 2, 3))) static void note(struct actor *a, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	a->used += (size_t)vsnprintf(a->log + a->used, LOG_BYTES - a->used, format, list);
	va_end(list);
	if (a->used >= LOG_BYTES)
		die("log is full");
}

static long call(struct actor *a, const char *name, long nr, unsigned long a0, unsigned long a1, unsigned long a2,
		 unsigned long a3, unsigned long a4, unsigned long a5)
{
	uint64_t before = now();
	long ret = syscall(nr, a0, a1, a2, a3, a4, a5);
	if (ret == -1)
		ret = -errno;
	uint64_t after = now();
	note(a, "C %d %lu %lu %s %lx %lx %lx %lx %lx %lx ", a->tid, before, after, name, a0, a1, a2, a3, a4, a5);
	if (ret < 0 && ret > -4096)
		note(a, "%ld\n", ret);
	else
		note(a, "%lx\n", ret);
	return ret;
}

#define CALL(name, a0, a1, a2, a3, a4, a5)                                                                        \
	call(a, #name, SYS_##name, (unsigned long)(a0), (unsigned long)(a1), (unsigned long)(a2), (unsigned long)(a3), \
	     (unsigned long)(a4), (unsigned long)(a5))
#define MMAP(addr, len, prot, flags, fd, off) at(CALL(mmap, addr, len, prot, flags, fd, off))
static char *at(long ret)
{
	return (char *)ret;
}

#define MUNMAP(addr, len) CALL(munmap, addr, len, 0, 0, 0, 0)
#define MADVISE(addr, len, advice) CALL(madvise, addr, len, advice, 0, 0, 0)
#define MPROTECT(addr, len, prot) CALL(mprotect, addr, len, prot, 0, 0, 0)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)

static void touched(struct actor *a, uint64_t before, const void *addr, char access, char mode, const char *frame)
{
	note(a, "T %d %lu %lu %lx %c %c %s\n", a->tid, before, now(), (unsigned long)addr, access, mode, frame);
}

static void write_to(struct actor *a, char *addr, const char *frame)
{
	uint64_t before = now();
	*(volatile char *)addr = 1;
	touched(a, before, addr, 'w', 'u', frame);
}

static void read_from(struct actor *a, const char *addr, const char *frame)
{
	uint64_t before = now();
	(void)*(const volatile char *)addr;
	touched(a, before, addr, 'r', 'u', frame);
}

static void anonymous(struct actor *a, unsigned long pages)
{
	// An odd length: the kernel rounds it up.
	char *p = MMAP(0, pages * PAGE - 123, RW, ANON, -1, 0);
	for (unsigned long i = 0; i < pages; i++) {
		char *at = p + i * PAGE + (i * 811 + (unsigned long)a->number) % PAGE;
		if (i % 2 == 0) {
			write_to(a, at, "anon");
		} else {
			read_from(a, at, "none"); // the zero page
			write_to(a, at, "anon");  // a page of its own
		}
		*(volatile char *)at = 2; // present: no fault
	}
	MADVISE(p + PAGE, 2 * PAGE, MADV_DONTNEED);
	write_to(a, p + PAGE + 7, "anon");
	write_to(a, p + 2 * PAGE, "anon");
	MADVISE(p + 3 * PAGE, PAGE - 1, MADV_DONTNEED); // an odd length
	write_to(a, p + 4 * PAGE - 1, "anon");
	MADVISE(p, PAGE, MADV_FREE);
	MADVISE(p, pages * PAGE, MADV_RANDOM);
	MADVISE(p, pages * PAGE, MADV_NORMAL);
	MADVISE(p, pages * PAGE, MADV_COLD);
	MADVISE(p, pages * PAGE, MADV_WILLNEED);
	MADVISE(p + PAGE, PAGE, MADV_DONTNEED_LOCKED);
	MPROTECT(p, 2 * PAGE, PROT_READ);
	MPROTECT(p, 2 * PAGE - 5, RW);

	char *q = (char *)CALL(mremap, p, pages * PAGE, (pages + 4) * PAGE, MREMAP_MAYMOVE, 0, 0);
	for (unsigned long i = pages; i < pages + 4; i++)
		write_to(a, q + i * PAGE + 3 * i, "anon");
	CALL(mremap, q, (pages + 4) * PAGE, pages * PAGE, 0, 0, 0);
	// The pages move, the old range stays mapped, and empty.
	char *r = (char *)CALL(mremap, q + 2 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0, 0);
	write_to(a, q + 2 * PAGE + 9, "anon");
	// To a place of our choice, in a range of our own.
	char *home = MMAP(0, 4 * PAGE, PROT_NONE, ANON, -1, 0);
	CALL(mremap, r, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, home + PAGE, 0);
	MUNMAP(home, 4 * PAGE);
	MUNMAP(q + PAGE, PAGE);
	MUNMAP(q, PAGE - 100);
	MUNMAP(q + 2 * PAGE, (pages - 2) * PAGE);
}

static void fixed(struct actor *a)
{
	char *p = MMAP(0, 6 * PAGE, RW, ANON, -1, 0);
	for (int i = 0; i < 6; i++)
		write_to(a, p + i * PAGE + 100 * i, "anon");
	MMAP(p + 2 * PAGE, 2 * PAGE, RW, ANON | MAP_FIXED, -1, 0); // replaces two touched pages
	write_to(a, p + 2 * PAGE, "anon");
	write_to(a, p + 3 * PAGE, "anon");
	MMAP(p + 4 * PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0); // EEXIST
	MUNMAP(p, 6 * PAGE);
}

static void populated(struct actor *a)
{
	char *p = MMAP(0, 8 * PAGE, RW, ANON | MAP_POPULATE, -1, 0);
	for (int i = 0; i < 8; i++)
		*(volatile char *)(p + i * PAGE) = 1; // present: no fault
	MUNMAP(p, 8 * PAGE);
}

static void reserved(struct actor *a)
{
	char *p = MMAP(0, 1UL << 38, PROT_NONE, ANON | MAP_NORESERVE, -1, 0);
	MPROTECT(p + (1UL << 37), 2 * PAGE, RW);
	write_to(a, p + (1UL << 37) + PAGE + 1, "anon");
	MUNMAP(p, 1UL << 38);
}

static void shared(struct actor *a)
{
	char *p = MMAP(0, 4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 4; i++)
		write_to(a, p + i * PAGE + i, "shmem");
	MADVISE(p + PAGE, 2 * PAGE, MADV_REMOVE);
	write_to(a, p + PAGE, "shmem");
	MUNMAP(p, 4 * PAGE);

	int id = shmget(IPC_PRIVATE, 3 * PAGE, IPC_CREAT | 0600);
	if (id < 0)
		die("shmget");
	char *s = (char *)CALL(shmat, id, 0, 0, 0, 0, 0);
	shmctl(id, IPC_RMID, 0);
	for (int i = 0; i < 3; i++)
		write_to(a, s + i * PAGE + 5, "shmem");
	CALL(shmdt, s, 0, 0, 0, 0, 0);
}

static void files(struct actor *a)
{
	// One page each: the kernel maps the neighbours of a faulting page of a file as well.
	char *p = MMAP(0, PAGE, PROT_READ, MAP_PRIVATE, data_fd, 2 * PAGE);
	read_from(a, p + 17, "file");
	MUNMAP(p, PAGE);
	p = MMAP(0, PAGE, RW, MAP_PRIVATE, data_fd, PAGE);
	write_to(a, p + 33, "anon"); // a copy of its own
	MUNMAP(p, PAGE);
	p = MMAP(0, 100, PROT_READ | PROT_EXEC, MAP_PRIVATE, code_fd, 0);
	uint64_t before = now();
	((void (*)(void))(p + 8))();
	touched(a, before, p + 8, 'x', 'u', "none");
	MUNMAP(p, PAGE);
}

static void by_kernel(struct actor *a)
{
	int ends[2];
	if (pipe(ends))
		die("pipe");
	char *p = MMAP(0, 2 * PAGE, RW, ANON, -1, 0);
	uint64_t before = now();
	if (write(ends[1], p + 11, 1) != 1)
		die("write");
	touched(a, before, p + 11, 'r', 'k', "none");
	before = now();
	if (read(ends[0], p + PAGE + 13, 1) != 1)
		die("read");
	touched(a, before, p + PAGE + 13, 'w', 'k', "anon");
	MUNMAP(p, 2 * PAGE);
	close(ends[0]);
	close(ends[1]);
}

static void failing(struct actor *a)
{
	MMAP(0, 0, RW, ANON, -1, 0);                        // EINVAL
	MMAP(0, 1UL << 62, RW, ANON, -1, 0);                // ENOMEM
	MMAP(0, PAGE, RW, MAP_PRIVATE, 9999, 0);            // EBADF
	MUNMAP(a->marker + 1, PAGE);                        // EINVAL
	MUNMAP(a->marker, 0);                               // EINVAL
	MADVISE(a->marker, PAGE, 77);                       // EINVAL
	MADVISE(0, PAGE, MADV_DONTNEED);                    // ENOMEM: not mapped
	MPROTECT(0, PAGE, PROT_READ);                       // ENOMEM
	CALL(mremap, 0, PAGE, 2 * PAGE, MREMAP_MAYMOVE, 0, 0); // EFAULT
	CALL(shmat, -1, 0, 0, 0, 0, 0);                     // EINVAL
	CALL(shmdt, a->marker, 0, 0, 0, 0, 0);              // EINVAL
	MADVISE(a->marker, 0, MADV_NORMAL);                 // zero lengths that succeed
	MADVISE(a->marker, 0, MADV_DONTNEED);
	MPROTECT(a->marker, 0, PROT_READ);
}

static void heap(struct actor *a)
{
	unsigned long start = (unsigned long)CALL(brk, 0, 0, 0, 0, 0, 0);
	unsigned long first = (start + PAGE - 1) & ~(PAGE - 1);
	CALL(brk, first + 5 * PAGE, 0, 0, 0, 0, 0);
	write_to(a, (char *)first + 2, "anon");
	write_to(a, (char *)first + 4 * PAGE + 2, "anon");
	CALL(brk, first + PAGE + 100, 0, 0, 0, 0, 0);
	CALL(brk, first + PAGE + 200, 0, 0, 0, 0, 0); // within the same page
	CALL(brk, start, 0, 0, 0, 0, 0);
	CALL(brk, 1, 0, 0, 0, 0, 0); // refused: answers with the present end
}

static void act(struct actor *a)
{
	a->tid = (pid_t)syscall(SYS_gettid);
	MPROTECT(a->marker, PAGE, PROT_READ);
	for (int round = 0; round < 2; round++) {
		anonymous(a, 6 + (unsigned long)(a->number + round) % 5);
		fixed(a);
		populated(a);
		reserved(a);
		shared(a);
		files(a);
		by_kernel(a);
		failing(a);
		if (a->moves_brk)
			heap(a);
	}
	MPROTECT(a->marker, PAGE, RW);
}

static void *thread(void *argument)
{
	struct actor *a = argument;
	// The stack below, before the acts.
	char depth[16 * 1024];
	memset(depth, 1, sizeof depth);
	__asm__ volatile("" : : "r"(depth) : "memory");
	pthread_barrier_wait(&barrier); // all are there
	pthread_barrier_wait(&barrier); // go
	act(a);
	return NULL;
}

static void save(const char *dir, struct actor *actors, int count)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/%d.log", dir, getpid());
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0)
		die(path);
	for (int i = 0; i < count; i++)
		if (write(fd, actors[i].log, actors[i].used) != (ssize_t)actors[i].used)
			die("write log");
	close(fd);
}

static void *mapped(size_t bytes)
{
	void *p = mmap(0, bytes, RW, ANON, -1, 0);
	if (p == MAP_FAILED)
		die("mmap");
	memset(p, 0, bytes);
	return p;
}

static void line(const char *text)
{
	if (write(1, text, strlen(text)) < 0)
		die("stdout");
}

static void await(void)
{
	char byte;
	if (read(0, &byte, 1) < 0)
		die("stdin");
}

int main(int argc, char **argv)
{
	if (argc != 5)
		return 2;
	int threads = atoi(argv[2]), children = atoi(argv[3]), waits = strcmp(argv[4], "wait") == 0;
	if (threads > MAX_THREADS)
		return 2;
	// Base pages only, whatever the host prefers, and no arena of malloc per thread.
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	mallopt(M_ARENA_MAX, 1);

	char path[4096];
	snprintf(path, sizeof path, "%s/data", argv[1]);
	data_fd = open(path, O_RDWR | O_CREAT, 0644);
	static char page[PAGE];
	for (int i = 0; i < 4; i++)
		if (pwrite(data_fd, page, PAGE, i * (long)PAGE) != (ssize_t)PAGE)
			die("data");
	code_fd = memfd_create("acts-code", MFD_CLOEXEC);
	memset(page, 0xc3, PAGE); // ret
	if (code_fd < 0 || pwrite(code_fd, page, PAGE, 0) != (ssize_t)PAGE)
		die("code");

	int count = threads ? threads : 1;
	struct actor *actors = mapped(sizeof(struct actor) * (size_t)count);
	char *logs = mapped(LOG_BYTES * (size_t)count);
	char *markers = mapped(PAGE * (size_t)count * 2);
	char *stacks = mapped(STACK_BYTES * (size_t)count);
	for (int i = 0; i < count; i++)
		actors[i] = (struct actor){.number = i, .moves_brk = i == 0, .log = logs + LOG_BYTES * (size_t)i,
					   .marker = markers + 2 * PAGE * (size_t)i};

	pthread_t ids[MAX_THREADS];
	pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
	for (int i = 0; i < threads; i++) {
		pthread_attr_t attr;
		pthread_attr_init(&attr);
		pthread_attr_setstack(&attr, stacks + STACK_BYTES * (size_t)i, STACK_BYTES);
		if (pthread_create(&ids[i], &attr, thread, &actors[i]))
			die("pthread_create");
	}
	if (threads)
		pthread_barrier_wait(&barrier);
	if (waits) {
		line("ready\n");
		await();
	}
	if (threads) {
		pthread_barrier_wait(&barrier);
		for (int i = 0; i < threads; i++)
			pthread_join(ids[i], NULL);
	} else {
		act(&actors[0]);
	}
	save(argv[1], actors, count);

	for (int i = 0; i < children; i++) {
		pid_t child = fork();
		if (child < 0)
			die("fork");
		if (child == 0) {
			actors[0].used = 0;
			actors[0].number = i + 1;
			act(&actors[0]);
			save(argv[1], actors, 1);
			_exit(0);
		}
	}
	for (int i = 0; i < children; i++) {
		int status;
		if (wait(&status) < 0 || status != 0)
			die("child");
	}
	if (waits) {
		line("done\n");
		await();
	}
	return 0;
}
