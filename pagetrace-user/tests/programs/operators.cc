// Calls the operators of C++ in every form, through containers and by hand.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

struct alignas(128) Wide { char bytes[256]; };

static void *volatile kept;

int main() {
    std::setvbuf(stdout, nullptr, _IONBF, 0);
    std::map<int, std::string> names;
    for (int i = 0; i < 1000; i++)
        names[i] = std::string(40 + i % 300, 'x');
    for (int i = 0; i < 1000; i += 3)
        names.erase(i);
    std::vector<std::unique_ptr<int[]>> arrays;
    for (int i = 1; i < 200; i++)
        arrays.emplace_back(new int[i]);
    for (int i = 0; i < 100; i++) {
        void *plain = ::operator new(1000 + i), *array = ::operator new[](50 + i);
        void *nothrow = ::operator new(300, std::nothrow), *wide = ::operator new(sizeof(Wide), std::align_val_t(128));
        ::operator delete(plain, std::size_t(1000 + i));
        ::operator delete[](array);
        ::operator delete(nothrow, std::nothrow);
        ::operator delete(wide, std::align_val_t(128));
        kept = std::malloc(i);
        kept = std::realloc(kept, 2 * i + 1);
        std::free(kept);
    }
    // More than there is: it throws, and what is called afterwards is counted as before. mimalloc, written in C, ends
    // the program instead.
    const char *preload = std::getenv("LD_PRELOAD");
    bool throws = !preload || !std::strstr(preload, "mimalloc");
    volatile std::size_t huge = std::size_t(1) << 60;
    try {
        if (throws)
            kept = ::operator new(huge);
        else
            kept = ::operator new(77);
    } catch (const std::bad_alloc &) {
        kept = ::operator new(77);
    }
    std::printf("leaks 1 77\n");
}
