// A library that stands between a program and the system (LD_PRELOAD), and lets calls fail as a kernel may let them.
//
// In the environment: FAULTS=no-multi: the kernel knows no programs for links of several uprobes, as before 6.6.
// SIGUSR1: from now on nobody can wait for events any more. SIGUSR2: nor for time to pass.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <linux/bpf.h>

// BPF_TRACE_UPROBE_MULTI of <linux/bpf.h>, which older headers lack.
#define TRACE_UPROBE_MULTI 48

static volatile sig_atomic_t no_events, no_time;
static int no_multi;

static void on_signal(int signal)
{
	if (signal == SIGUSR1)
		no_events = 1;
	else
		no_time = 1;
}

__attribute__((constructor)) static void begin(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	const char *faults = getenv("FAULTS");

	no_multi = faults && !strcmp(faults, "no-multi");
	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGUSR2, &action, NULL);
}

static int fail(int error)
{
	errno = error;
	return -1;
}

int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout_ms)
{
	static int (*real)(int, struct epoll_event *, int, int);

	if (!real)
		real = dlsym(RTLD_NEXT, "epoll_wait");
	return no_events ? fail(EBADF) : real(epoll, events, most, timeout_ms);
}

int nanosleep(const struct timespec *time, struct timespec *left)
{
	static int (*real)(const struct timespec *, struct timespec *);

	if (!real)
		real = dlsym(RTLD_NEXT, "nanosleep");
	return no_time ? fail(EFAULT) : real(time, left);
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *left)
{
	static int (*real)(clockid_t, int, const struct timespec *, struct timespec *);

	if (!real)
		real = dlsym(RTLD_NEXT, "clock_nanosleep");
	return no_time ? EFAULT : real(clock, flags, time, left);
}

long syscall(long number, ...)
{
	static long (*real)(long, ...);
	va_list list;
	long words[6];

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		words[i] = va_arg(list, long);
	va_end(list);
	if (no_multi && number == SYS_bpf && words[0] == BPF_PROG_LOAD) {
		const union bpf_attr *attr = (const union bpf_attr *)words[1];

		if (attr->expected_attach_type == TRACE_UPROBE_MULTI)
			return fail(EINVAL);
	}
	if (!real)
		real = dlsym(RTLD_NEXT, "syscall");
	return real(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}
