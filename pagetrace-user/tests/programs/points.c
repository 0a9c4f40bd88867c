// A hundred places to attach to.
//
// Prints "point HEX" for each and "ready"; runs through all of them for every line on stdin, and prints "done". Ends
// with its input. Each place begins with a nop, which the kernel emulates.
#include <stdio.h>

#define POINTS 100

// Sixteen bytes a place.
__asm__(".text\n"
		".balign 16\n"
		"points:\n"
		".rept 100\n"
		"nop\n"
		"lea 1(%rdi), %rax\n"
		"ret\n"
		".balign 16\n"
		".endr\n");

extern char points[];

int main(void)
{
	char line[16];

	for (int i = 0; i < POINTS; i++)
		printf("point %lx\n", (unsigned long)(points + 16 * i));
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		long sum = 0;

		for (int i = 0; i < POINTS; i++)
			sum = ((long (*)(long))(points + 16 * i))(sum);
		if (sum != POINTS)
			return 1;
		puts("done");
		fflush(stdout);
	}
	return 0;
}
