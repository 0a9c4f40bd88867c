// A library that is put before a program: on SIGUSR1 it writes what malloc_info(3) says to the file that SAY_CHUNKS names, and a
// line "mallinfo2" with what mallinfo2(3) says of all arenas together. Nothing of that is taken from the allocator.
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static FILE *info;
static char info_buffer[1 << 16];

static void say(int signal) {
	(void)signal;
	if (malloc_info(0, info) != 0) abort();
	struct mallinfo2 all = mallinfo2();
	fprintf(info, "mallinfo2 %zu %zu %zu %zu\n", all.smblks, all.fsmblks, all.ordblks, all.fordblks);
	if (fflush(info) != 0) abort();
}

__attribute__((constructor)) static void begin(void) {
	const char *name = getenv("SAY_CHUNKS");
	info = name == NULL ? NULL : fopen(name, "w");
	if (info == NULL) abort();
	setvbuf(info, info_buffer, _IOFBF, sizeof info_buffer);
	struct sigaction action = {.sa_handler = say, .sa_flags = SA_RESTART};
	if (sigaction(SIGUSR1, &action, NULL) != 0) abort();
}
