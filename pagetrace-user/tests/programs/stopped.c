/* Runs a program, and prints what is mapped in it before its first instruction. Without one it is over at once. */

#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 2) return 0;
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        execv(argv[1], argv + 1);
        _exit(127);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) return 1;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/maps", child);
    FILE *maps = fopen(path, "r");
    int byte;
    while ((byte = getc(maps)) != EOF) putchar(byte);
    ptrace(PTRACE_DETACH, child, 0, 0);
    return waitpid(child, &status, 0) == child && WIFEXITED(status) ? 0 : 1;
}
