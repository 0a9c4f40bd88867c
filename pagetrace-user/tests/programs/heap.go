// A Go program that keeps its page heap busy: blocks of many sizes, and goroutines with deep stacks, come and go.
//
// usage: heap ROUNDS now|wait FILE [TRACE]
//
// "wait": prints "ready"; after one byte on stdin takes one block and prints "took"; after a second acts and prints "done";
// ends after a third. "now": acts and ends. Just before it acts and when it has acted it writes into FILE what the runtime's
// own books say, in bytes, and between which two moments (of the kernel's monotonic clock, ns) they said it: a line
// "HeapInuse StackInuse HeapReleased FROM TO". It traces itself (runtime/trace) into TRACE meanwhile, from before it acts
// until after the last TO.
package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/trace"
	"strconv"
	"sync"
	"syscall"
	"unsafe"
)

var kept [512][]byte

// Pages of these come from what a P puts aside for itself.
var pages [300][]byte

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

func create(name string) *os.File {
	file, err := os.Create(name)
	check(err)
	return file
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// All that is needed for telling is there before the figures are taken.
var stats runtime.MemStats
var line [256]byte

func tell(file *os.File) {
	buffer := line[:0]
	now()
	from := now()
	runtime.ReadMemStats(&stats)
	to := now()
	for _, figure := range []uint64{stats.HeapInuse, stats.StackInuse, stats.HeapReleased, from, to} {
		buffer = strconv.AppendUint(buffer, figure, 10)
		buffer = append(buffer, ' ')
	}
	file.Write(append(buffer, '\n'))
}

func main() {
	rounds, _ := strconv.Atoi(os.Args[1])
	file := create(os.Args[3])
	var one [1]byte
	await := func(said string) {
		if os.Args[2] == "wait" {
			os.Stdout.Write([]byte(said))
			os.Stdin.Read(one[:])
		}
	}
	act(rounds / 4)
	for i := range pages {
		pages[i] = make([]byte, 8192)
	}
	await("ready\n")
	kept[0] = make([]byte, 1<<20)
	await("took\n")
	tell(file)
	if len(os.Args) > 4 {
		check(trace.Start(create(os.Args[4])))
		defer trace.Stop()
	}
	act(rounds)
	debug.SetGCPercent(-1)
	tell(file)
	await("done\n")
}
