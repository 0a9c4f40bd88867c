// A Go program that keeps its page heap busy: blocks of many sizes, and goroutines with deep stacks, come and go.
//
// usage: heap ROUNDS now|wait FILE
//
// "wait": prints "ready", acts after one byte on stdin, prints "done", and ends after a second byte. "now": acts and ends.
// When it has acted it writes into FILE what the runtime's own books say, in bytes, and between which two moments (of the
// kernel's monotonic clock, ns) they said it: "HeapInuse StackInuse HeapReleased FROM TO".
package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"unsafe"
)

var kept [512][]byte

func deep(n int) byte {
	var block [512]byte
	block[n%512] = byte(n)
	if n == 0 {
		return block[0]
	}
	return deep(n-1) + block[n%512]
}

func act(rounds int) {
	var group sync.WaitGroup
	for worker := 0; worker < 8; worker++ {
		group.Add(1)
		go func(worker int) {
			defer group.Done()
			for round := 0; round < rounds; round++ {
				size := 1 << uint(4+(round*7+worker*3)%18)
				kept[worker*64+round%64] = make([]byte, size)
				if round%100 == worker {
					deep(20 + round%200)
				}
			}
		}(worker)
	}
	group.Wait()
	for i := range kept {
		if i%3 != 0 {
			kept[i] = nil
		}
	}
	runtime.GC()
	debug.FreeOSMemory()
}

func now() uint64 {
	var at syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, 1, uintptr(unsafe.Pointer(&at)), 0)
	return uint64(at.Sec)*1e9 + uint64(at.Nsec)
}

func main() {
	rounds, _ := strconv.Atoi(os.Args[1])
	wait := os.Args[2] == "wait"
	var one [1]byte
	act(rounds / 4)
	if wait {
		os.Stdout.Write([]byte("ready\n"))
		os.Stdin.Read(one[:])
	}
	act(rounds)
	debug.SetGCPercent(-1)
	file, err := os.Create(os.Args[3])
	if err != nil {
		panic(err)
	}
	// All that is needed for telling is there before the figures are taken.
	var stats runtime.MemStats
	buffer := make([]byte, 0, 4096)
	file.Write([]byte(" "))
	now()
	from := now()
	runtime.ReadMemStats(&stats)
	to := now()
	for _, figure := range []uint64{stats.HeapInuse, stats.StackInuse, stats.HeapReleased, from, to} {
		buffer = strconv.AppendUint(buffer, figure, 10)
		buffer = append(buffer, ' ')
	}
	file.Write(buffer)
	if wait {
		os.Stdout.Write([]byte("done\n"))
		os.Stdin.Read(one[:])
	}
}
