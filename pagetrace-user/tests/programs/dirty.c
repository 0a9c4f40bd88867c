/* Maps a file, shared, of as many pages as it is told, and reads all of them. Told to go on, it writes to some, as a mapping and
   as a file; told again, it has them written back. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096UL

static void say(const char *word) {
    puts(word);
    fflush(stdout);
    if (getchar() == EOF) exit(0);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    unsigned long pages = strtoul(argv[2], NULL, 0);
    int file = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
    static char page[PAGE] = {1};
    for (unsigned long at = 0; at < pages; at++)
        if (write(file, page, PAGE) != (ssize_t)PAGE) return 1;
    if (fsync(file) != 0) return 1;
    volatile char *map = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    unsigned long sum = 0;
    for (unsigned long at = 0; at < pages; at++) sum += map[at * PAGE];
    if (sum != pages) return 1;
    say("ready");
    for (unsigned long at = 0; at < pages / 3; at++) map[at * PAGE] = 2;
    if (pwrite(file, page, PAGE, (pages - 1) * PAGE) != (ssize_t)PAGE) return 1;
    say("done");
    if (msync((void *)map, pages * PAGE, MS_SYNC) != 0) return 1;
    say("done");
    return 0;
}
