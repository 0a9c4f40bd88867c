// A Go program whose page heap has nothing to tell for long.
//
// usage: silent rest|fill|trespass
//
// Prints "ready"; after a byte on stdin takes a block, gives back all that is free, prints "took", and from then on takes
// nothing: "rest" sleeps, "fill" touches page after page of a block that it got before, "trespass" the same of one that its
// heap has taken back and given back to the kernel. Ends with its stdin.
package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"time"
	"unsafe"
)

const (
	blockBytes = 64 << 20
	pageBytes  = 4096
)

var block, another []byte

// Keeps no reference, as the compiler sees it.
//
//go:noinline
func touch(address uintptr) {
	*(*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&address))) = 1
}

func act(what string, address uintptr) {
	for page := uintptr(0); page < blockBytes/pageBytes; page++ {
		if what != "rest" {
			touch(address + page*pageBytes)
		}
		if page%64 == 63 {
			time.Sleep(50 * time.Millisecond)
		}
	}
}

func main() {
	what := os.Args[1]
	var one [1]byte
	block = make([]byte, blockBytes)
	address := uintptr(unsafe.Pointer(&block[0]))
	if what == "trespass" {
		block = nil
		runtime.GC()
	}
	os.Stdout.Write([]byte("ready\n"))
	os.Stdin.Read(one[:])
	another = make([]byte, 1<<20)
	debug.FreeOSMemory()
	debug.SetGCPercent(-1)
	os.Stdout.Write([]byte("took\n"))
	go act(what, address)
	os.Stdin.Read(one[:])
	runtime.KeepAlive(block)
}
