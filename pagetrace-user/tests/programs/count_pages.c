// A library that stands between gperftools' tcmalloc and its own page heap, and counts: put before it by LD_PRELOAD.
//
// The functions of the page heap call each other by way of the linkage table, so that these come first. Calls and pages of
// each stand in a file as 64-bit words, whose path is PAGE_COUNTS with the program's name behind it: Carve, Delete, DecommitSpan that the kernel granted.
//
// Carve and Delete end in a jump: whoever called them is still where they return to.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct span { unsigned long start, length; };

static unsigned long *counts;
static void *next_carve, *next_delete, *next_decommit;

// The page heap's lock is held: one thread at a time.
static unsigned long *row(int which) {
	if (counts == NULL) {
		char path[512];
		const char *start = getenv("PAGE_COUNTS");
		snprintf(path, sizeof path, "%s.%s", start ? start : "", program_invocation_short_name);
		int file = start ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644) : -1;
		if (file < 0 || ftruncate(file, 4096) != 0) abort();
		counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
		close(file);
		if (counts == MAP_FAILED) abort();
		next_carve = dlsym(RTLD_NEXT, "_ZN8tcmalloc8PageHeap5CarveEPNS_4SpanEm");
		next_delete = dlsym(RTLD_NEXT, "_ZN8tcmalloc8PageHeap6DeleteEPNS_4SpanE");
		next_decommit = dlsym(RTLD_NEXT, "_ZN8tcmalloc8PageHeap12DecommitSpanEPNS_4SpanE");
	}
	return counts + 2 * which;
}

void *_ZN8tcmalloc8PageHeap5CarveEPNS_4SpanEm(void *heap, struct span *span, unsigned long pages) {
	unsigned long *count = row(0);
	count[0]++;
	count[1] += pages;
	return ((void *(*)(void *, struct span *, unsigned long))next_carve)(heap, span, pages);
}

void _ZN8tcmalloc8PageHeap6DeleteEPNS_4SpanE(void *heap, struct span *span) {
	unsigned long *count = row(1);
	count[0]++;
	count[1] += span->length;
	((void (*)(void *, struct span *))next_delete)(heap, span);
}

bool _ZN8tcmalloc8PageHeap12DecommitSpanEPNS_4SpanE(void *heap, struct span *span) {
	unsigned long *count = row(2);
	bool granted = ((bool (*)(void *, struct span *))next_decommit)(heap, span);
	count[0] += granted;
	count[1] += granted ? span->length : 0;
	return granted;
}
