// A Go program that keeps its page heap busy: blocks of many sizes, and goroutines with deep stacks, come and go.
//
// usage: heap ROUNDS now|wait
//
// "wait": prints "ready", acts after one byte on stdin, prints "done", and ends after a second byte. "now": acts and ends.
// Before "done" it prints what the runtime's own books say, in bytes: "stats HeapInuse StackInuse HeapReleased NumGC";
// nothing is allocated or collected after that.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
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

func main() {
	rounds, _ := strconv.Atoi(os.Args[1])
	wait := os.Args[2] == "wait"
	var one [1]byte
	act(rounds / 4)
	if wait {
		fmt.Println("ready")
		os.Stdin.Read(one[:])
	}
	act(rounds)
	if !wait {
		return
	}
	debug.SetGCPercent(-1)
	var stats runtime.MemStats
	// The line is made before the figures are taken: printing must not change them.
	fmt.Fprintln(os.Stderr, "x")
	buffer := make([]byte, 0, 4096)
	runtime.ReadMemStats(&stats)
	buffer = append(buffer, "stats "...)
	for _, figure := range []uint64{stats.HeapInuse, stats.StackInuse, stats.HeapReleased, uint64(stats.NumGC)} {
		buffer = strconv.AppendUint(buffer, figure, 10)
		buffer = append(buffer, ' ')
	}
	buffer = append(buffer, "\ndone\n"...)
	os.Stdout.Write(buffer)
	os.Stdin.Read(one[:])
	runtime.KeepAlive(kept)
}
