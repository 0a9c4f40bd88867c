// Counts calls of malloc and its kin in the process that preloads it, each as it is entered from outside of an
// allocator: calls and bytes by function, in the file that OBJECT_COUNTS names, as pairs of 64-bit words.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MALLOC, CALLOC, REALLOC, REALLOCARRAY, FREE, POSIX_MEMALIGN, ALIGNED_ALLOC, MEMALIGN, VALLOC, PVALLOC,
       NEW, NEW_ARRAY, DELETE, DELETE_ARRAY, FUNCTIONS };

static uint64_t before_start[FUNCTIONS][2];
static uint64_t (*counts)[2] = before_start;
static __thread int depth;

// Also when an exception leaves the call.
static void leave(int *unused) {
    (void)unused;
    depth--;
}

#define INSIDE depth++; __attribute__((cleanup(leave))) int inside = 0; (void)inside;

static void count(int function, uint64_t bytes) {
    if (depth == 0) {
        __atomic_add_fetch(&counts[function][0], 1, __ATOMIC_RELAXED);
        __atomic_add_fetch(&counts[function][1], bytes, __ATOMIC_RELAXED);
    }
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("OBJECT_COUNTS");
    int fd = path ? open(path, O_RDWR | O_CREAT | O_TRUNC, 0600) : -1;
    if (fd < 0 || ftruncate(fd, sizeof before_start))
        _exit(99);
    void *at = mmap(NULL, sizeof before_start, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        _exit(99);
    memcpy(at, before_start, sizeof before_start);
    counts = at;
    close(fd);
}

#define NEXT(type, name, ...) \
    static type (*next)(__VA_ARGS__); \
    if (!next) { depth++; *(void **)&next = dlsym(RTLD_NEXT, name); depth--; }
#define GIVES(function, name, parameters, arguments, size) \
    count(function, size); NEXT(void *, name, parameters) INSIDE return next arguments;
#define LIST(...) __VA_ARGS__

void *malloc(size_t n) { GIVES(MALLOC, "malloc", LIST(size_t), (n), n) }
void *calloc(size_t n, size_t m) { GIVES(CALLOC, "calloc", LIST(size_t, size_t), (n, m), n * m) }
void *realloc(void *p, size_t n) { GIVES(REALLOC, "realloc", LIST(void *, size_t), (p, n), n) }
void *reallocarray(void *p, size_t n, size_t m) {
    GIVES(REALLOCARRAY, "reallocarray", LIST(void *, size_t, size_t), (p, n, m), n * m)
}
void *aligned_alloc(size_t a, size_t n) { GIVES(ALIGNED_ALLOC, "aligned_alloc", LIST(size_t, size_t), (a, n), n) }
void *memalign(size_t a, size_t n) { GIVES(MEMALIGN, "memalign", LIST(size_t, size_t), (a, n), n) }
void *valloc(size_t n) { GIVES(VALLOC, "valloc", LIST(size_t), (n), n) }
void *pvalloc(size_t n) { GIVES(PVALLOC, "pvalloc", LIST(size_t), (n), n) }
int posix_memalign(void **p, size_t a, size_t n) {
    count(POSIX_MEMALIGN, n);
    NEXT(int, "posix_memalign", void **, size_t, size_t)
    INSIDE return next(p, a, n);
}
void free(void *p) { count(FREE, 0); NEXT(void, "free", void *) INSIDE next(p); }

// The operators of C++.
void *_Znwm(size_t n) { GIVES(NEW, "_Znwm", LIST(size_t), (n), n) }
void *_Znam(size_t n) { GIVES(NEW_ARRAY, "_Znam", LIST(size_t), (n), n) }
void *_ZnwmRKSt9nothrow_t(size_t n, void *t) { GIVES(NEW, "_ZnwmRKSt9nothrow_t", LIST(size_t, void *), (n, t), n) }
void *_ZnamRKSt9nothrow_t(size_t n, void *t) {
    GIVES(NEW_ARRAY, "_ZnamRKSt9nothrow_t", LIST(size_t, void *), (n, t), n)
}
void *_ZnwmSt11align_val_t(size_t n, size_t a) { GIVES(NEW, "_ZnwmSt11align_val_t", LIST(size_t, size_t), (n, a), n) }
void _ZdlPv(void *p) { count(DELETE, 0); NEXT(void, "_ZdlPv", void *) INSIDE next(p); }
void _ZdaPv(void *p) { count(DELETE_ARRAY, 0); NEXT(void, "_ZdaPv", void *) INSIDE next(p); }
void _ZdlPvm(void *p, size_t n) {
    count(DELETE, 0); NEXT(void, "_ZdlPvm", void *, size_t) INSIDE next(p, n);
}
void _ZdaPvm(void *p, size_t n) {
    count(DELETE_ARRAY, 0); NEXT(void, "_ZdaPvm", void *, size_t) INSIDE next(p, n);
}
void _ZdlPvSt11align_val_t(void *p, size_t a) {
    count(DELETE, 0); NEXT(void, "_ZdlPvSt11align_val_t", void *, size_t) INSIDE next(p, a);
}
void _ZdlPvmSt11align_val_t(void *p, size_t n, size_t a) {
    count(DELETE, 0); NEXT(void, "_ZdlPvmSt11align_val_t", void *, size_t, size_t) INSIDE next(p, n, a);
}
void _ZdlPvRKSt9nothrow_t(void *p, void *t) {
    count(DELETE, 0); NEXT(void, "_ZdlPvRKSt9nothrow_t", void *, void *) INSIDE next(p, t);
}
void _ZdaPvRKSt9nothrow_t(void *p, void *t) {
    count(DELETE_ARRAY, 0); NEXT(void, "_ZdaPvRKSt9nothrow_t", void *, void *) INSIDE next(p, t);
}
