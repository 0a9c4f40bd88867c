// Acts on the memory of another process.
//
// usage: remote write PID HEX BYTES          writes there, page by page
//        remote advise PID HEX BYTES ADVICE  process_madvise with this MADV_* number
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc < 5)
		return 2;
	pid_t pid = atoi(argv[2]);
	char *at = (char *)strtoul(argv[3], NULL, 16);
	size_t bytes = strtoul(argv[4], NULL, 0);
	if (strcmp(argv[1], "write") == 0) {
		static char page[4096];
		for (size_t done = 0; done < bytes; done += sizeof page) {
			struct iovec from = {page, sizeof page}, to = {at + done, sizeof page};
			if (process_vm_writev(pid, &from, 1, &to, 1, 0) != (ssize_t)sizeof page) {
				perror("process_vm_writev");
				return 1;
			}
		}
		return 0;
	}
	if (strcmp(argv[1], "advise") == 0 && argc == 6) {
		int fd = (int)syscall(SYS_pidfd_open, pid, 0);
		struct iovec range = {at, bytes};
		if (fd < 0 || syscall(SYS_process_madvise, fd, &range, 1UL, atoi(argv[5]), 0UL) != (long)bytes) {
			perror("process_madvise");
			return 1;
		}
		return 0;
	}
	return 2;
}
