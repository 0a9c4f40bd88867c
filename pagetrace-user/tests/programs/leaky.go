// What leaky.c does, in Go: of fifty-four places three leak (one by way of append, one in another goroutine), and one keeps few
// of the objects that it made. These four have a size class of their own each; the fifty others keep a few objects, or fill a
// table once.
//
// usage: leaky ROUNDS now|wait FILE
//
// When all is done and what nobody holds is collected, it writes into FILE what the runtime's own books say: a line "BYTES
// OBJECTS" for each size of small objects, then a line "0 BYTES" of what is in use and holds no object (HeapInuse -
// HeapAlloc). "wait": it prints "ready" and begins after one byte on stdin; then prints "done", and after a second byte writes
// the same again and ends.
package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"
)

const kept = 3
const pairs = 16

var leaked, scattered, batch [][]byte
var rings [30][kept][]byte
var tables [20][5][]byte
var filler [9000]byte

//go:noinline
func leakPlain() []byte {
	return make([]byte, 6000) // LEAK plain
}

//go:noinline
func leakResized(object []byte) []byte {
	return append(object, filler[:]...) // LEAK resized
}

//go:noinline
func leakElsewhere(done chan []byte) {
	done <- make([]byte, 6850) // LEAK elsewhere
}

//go:noinline
func scatter() []byte {
	return make([]byte, 1500) // FRAG
}

//go:noinline
func honestRing(n int, round int) {
	rings[n][round%kept] = make([]byte, 100+40*n)
}

//go:noinline
func honestTable(n int, round int) {
	if round < 5 {
		tables[n][round] = make([]byte, 20000+n)
	}
	filler[n] += make([]byte, 64+n)[round%64]
}

// Fifty places, by their lines.
func honest(round int) {
	honestRing(0, round)
	honestRing(1, round)
	honestRing(2, round)
	honestRing(3, round)
	honestRing(4, round)
	honestRing(5, round)
	honestRing(6, round)
	honestRing(7, round)
	honestRing(8, round)
	honestRing(9, round)
	honestRing(10, round)
	honestRing(11, round)
	honestRing(12, round)
	honestRing(13, round)
	honestRing(14, round)
	honestRing(15, round)
	honestRing(16, round)
	honestRing(17, round)
	honestRing(18, round)
	honestRing(19, round)
	honestRing(20, round)
	honestRing(21, round)
	honestRing(22, round)
	honestRing(23, round)
	honestRing(24, round)
	honestRing(25, round)
	honestRing(26, round)
	honestRing(27, round)
	honestRing(28, round)
	honestRing(29, round)
	honestTable(0, round)
	honestTable(1, round)
	honestTable(2, round)
	honestTable(3, round)
	honestTable(4, round)
	honestTable(5, round)
	honestTable(6, round)
	honestTable(7, round)
	honestTable(8, round)
	honestTable(9, round)
	honestTable(10, round)
	honestTable(11, round)
	honestTable(12, round)
	honestTable(13, round)
	honestTable(14, round)
	honestTable(15, round)
	honestTable(16, round)
	honestTable(17, round)
	honestTable(18, round)
	honestTable(19, round)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// All that is needed for telling is there before the figures are taken.
var stats runtime.MemStats
var line [1 << 16]byte

func tell(file *os.File) {
	buffer := line[:0]
	runtime.ReadMemStats(&stats)
	for _, size := range stats.BySize {
		if size.Size > 0 {
			buffer = strconv.AppendUint(buffer, uint64(size.Size), 10)
			buffer = append(buffer, ' ')
			buffer = strconv.AppendUint(buffer, size.Mallocs-size.Frees, 10)
			buffer = append(buffer, '\n')
		}
	}
	buffer = append(buffer, "0 "...)
	buffer = strconv.AppendUint(buffer, stats.HeapInuse-stats.HeapAlloc, 10)
	file.Write(append(buffer, '\n'))
}

func main() {
	rounds, err := strconv.Atoi(os.Args[1])
	check(err)
	file, err := os.Create(os.Args[3])
	check(err)
	await := func(said string) {
		if os.Args[2] == "wait" {
			os.Stdout.WriteString(said)
			os.Stdin.Read(line[:1])
		}
	}
	await("ready\n")
	done := make(chan []byte)
	for at := 0; at < rounds*pairs; at++ {
		batch = append(batch, scatter())
	}
	for at := 0; at < len(batch); at += pairs {
		scattered = append(scattered, batch[at])
	}
	for round := 0; round < rounds; round++ {
		honest(round)
		leaked = append(leaked, leakPlain(), leakResized(make([]byte, 100)))
		go leakElsewhere(done)
		leaked = append(leaked, <-done)
		time.Sleep(time.Millisecond)
	}
	batch = nil
	debug.SetGCPercent(-1)
	runtime.GC()
	runtime.GC()
	tell(file)
	await("done\n")
	tell(file)
	runtime.KeepAlive(scattered)
}
