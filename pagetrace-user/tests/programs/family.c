// Processes that make processes, each known by the size of a range that it maps and touches.
//
// usage: family tree     a child maps 107 pages, becomes "family second" by exec, maps 109 pages, ends
//        family reuse    two children one after the other, with one and the same PID: 105 and 106 pages
//        family blink    maps 103 pages and ends at once
//
// "tree" and "reuse" print "ready", act after one byte on stdin, print "child PID" for each child and "done",
// map 111 pages themselves, and end after a second byte.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL

static void pages(unsigned long count)
{
	char *p = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		_exit(1);
	for (unsigned long i = 0; i < count; i++)
		((volatile char *)p)[i * PAGE] = 1;
}

static void die(const char *what)
{
	fprintf(stderr, "family: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static void await(void)
{
	char byte;
	if (read(0, &byte, 1) != 1)
		_exit(0);
}

static void reap(pid_t child)
{
	int status;
	if (waitpid(child, &status, 0) != child || status != 0)
		die("child");
	printf("child %d\n", child);
	fflush(stdout);
}

static void tree(void)
{
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (child == 0) {
		pages(107);
		execl("/proc/self/exe", "second", "second", (char *)NULL);
		_exit(1);
	}
	reap(child);
}

// 0 when the PID is taken.
static pid_t clone_as(pid_t wanted)
{
	struct clone_args args = {.exit_signal = SIGCHLD, .set_tid = (unsigned long)&wanted, .set_tid_size = 1};
	long child = syscall(SYS_clone3, &args, sizeof args);
	if (child < 0 && errno != EEXIST)
		die("clone3");
	return child < 0 ? -1 : (pid_t)child;
}

static void reuse(void)
{
	// Far from where the kernel gives PIDs just now.
	pid_t wanted = getpid() > 15000 ? 9000 : 25000;
	for (;; wanted++) {
		pid_t child = clone_as(wanted);
		if (child < 0)
			continue;
		if (child == 0) {
			pages(105);
			_exit(0);
		}
		reap(child);
		break;
	}
	pid_t child = clone_as(wanted);
	if (child < 0)
		die("the PID was taken by another");
	if (child == 0) {
		pages(106);
		_exit(0);
	}
	reap(child);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	if (strcmp(mode, "blink") == 0) {
		pages(103);
		return 0;
	}
	if (strcmp(mode, "second") == 0) {
		pages(109);
		return 0;
	}
	puts("ready");
	fflush(stdout);
	await();
	if (strcmp(mode, "tree") == 0)
		tree();
	else if (strcmp(mode, "reuse") == 0)
		reuse();
	else
		return 2;
	pages(111);
	puts("done");
	fflush(stdout);
	await();
	return 0;
}
