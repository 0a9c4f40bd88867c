// Uses the heap and the collector, and nothing but the runtime.
package main

import "runtime"

var kept [][]byte

func main() {
	for i := 0; i < 100; i++ {
		kept = append(kept, make([]byte, 1<<16))
	}
	runtime.GC()
	println(len(kept), runtime.Version())
}
