// One thread on each CPU that maps, touches and unmaps without a pause.
//
// usage: flood PAGES NICE     PAGES: touches of each thread, 0: until killed
//
// Prints "ready", floods after one byte on stdin, prints "done", ends after a second byte.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define PAGE 4096UL
#define RUN 256UL

static unsigned long limit;

static void *flood(void *argument)
{
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET((size_t)(long)argument, &one);
	sched_setaffinity(0, sizeof one, &one); // a CPU that we may not use: anywhere is as good
	for (unsigned long done = 0; limit == 0 || done < limit; done += RUN) {
		char *p = mmap(NULL, RUN * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			_exit(1);
		for (unsigned long i = 0; i < RUN; i++)
			((volatile char *)p)[i * PAGE] = 1;
		munmap(p, RUN * PAGE);
	}
	return NULL;
}

static void await(void)
{
	char byte;
	if (read(0, &byte, 1) != 1)
		_exit(0);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	limit = strtoul(argv[1], NULL, 0);
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	if (setpriority(PRIO_PROCESS, 0, atoi(argv[2])))
		return 1;
	puts("ready");
	fflush(stdout);
	await();
	long cpus = sysconf(_SC_NPROCESSORS_CONF);
	if (cpus > 64)
		cpus = 64;
	pthread_t threads[64];
	for (long i = 0; i < cpus; i++)
		if (pthread_create(&threads[i], NULL, flood, (void *)i))
			return 1;
	for (long i = 0; i < cpus; i++)
		pthread_join(threads[i], NULL);
	puts("done");
	fflush(stdout);
	await();
	return 0;
}
