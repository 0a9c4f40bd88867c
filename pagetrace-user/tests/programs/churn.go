// A Go program that works its page heap hard and checks its own work.
//
// usage: churn WORKERS PAUSE
//
// So many goroutines make blocks of 16 bytes to 1 MiB and lists of nodes, look at each once more before they give it up,
// and recurse deep enough for new stacks; they rest PAUSE microseconds between rounds. Prints "ready". For every line on
// stdin the work stands still, the runtime's books are compared with each other and with what is kept, and it prints
// "done ROUNDS", the rounds so far. Ends with its input. What is wrong goes to stderr, and the exit status is 1.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	blocksKept = 32
	listsKept  = 16
	listNodes  = 200
	// What the runtime and this program have beside the blocks and lists.
	besideBytes = 4 << 20
)

// A block holds its key, and words that follow from it.
type block []uint64

type node struct {
	next *node
	key  uint64
	// A list of its own size class for each worker and round, of 32 to 96 bytes a node.
	rest []byte
}

type worker struct {
	number uint64
	round  uint64
	blocks [blocksKept]block
	lists  [listsKept]*node
}

// Held by each worker for a round, and by whoever wants the work to stand still.
var still sync.RWMutex

var rounds uint64

func wrong(format string, words ...interface{}) {
	fmt.Fprintf(os.Stderr, "churn: "+format+"\n", words...)
	os.Exit(1)
}

func word(key, at uint64) uint64 {
	mixed := (key + at*0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	return mixed ^ mixed>>31
}

func makeBlock(key uint64) block {
	made := make(block, 2<<(key%17))
	for at := range made {
		if made[at] != 0 {
			wrong("a new block has %#x at %d", made[at], at)
		}
		made[at] = word(key, uint64(at))
	}
	return made
}

func checkBlock(kept block, key uint64) {
	if kept == nil {
		return
	}
	if len(kept) != 2<<(key%17) {
		wrong("block %d is %d words long", key, len(kept))
	}
	for at, is := range kept {
		if is != word(key, uint64(at)) {
			wrong("block %d has %#x at %d", key, is, at)
		}
	}
}

func makeList(key uint64) *node {
	var list *node
	for at := uint64(0); at < listNodes; at++ {
		list = &node{list, word(key, at), make([]byte, 32+key%64)}
	}
	return list
}

func checkList(list *node, key uint64) {
	if list == nil {
		return
	}
	at := uint64(listNodes)
	for ; list != nil; list = list.next {
		at--
		if list.key != word(key, at) || len(list.rest) != int(32+key%64) {
			wrong("node %d of list %d has %#x", at, key, list.key)
		}
	}
	if at != 0 {
		wrong("list %d ends at %d", key, at)
	}
}

// Needs some 200 bytes of stack a level.
func deep(level uint64) uint64 {
	var frame [16]uint64
	frame[level%16] = level
	if level == 0 {
		return 0
	}
	below := deep(level - 1)
	return below + frame[level%16]
}

func (own *worker) act() {
	still.RLock()
	defer still.RUnlock()
	key := own.round*64 + own.number
	// What stands in a place was made when the place had its last turn.
	place := own.round % blocksKept
	checkBlock(own.blocks[place], key-blocksKept*64)
	own.blocks[place] = makeBlock(key)
	place = own.round % listsKept
	checkList(own.lists[place], key-listsKept*64)
	own.lists[place] = makeList(key)
	if own.round%8 == 0 {
		levels := 100 + key%2000
		sum := make(chan uint64)
		// On a stack that begins small.
		go func() { sum <- deep(levels) }()
		if is := <-sum; is != levels*(levels+1)/2 {
			wrong("the sum to %d is %d", levels, is)
		}
	}
	own.round++
	atomic.AddUint64(&rounds, 1)
}

func (own *worker) keptBytes() uint64 {
	var bytes uint64
	for _, kept := range own.blocks {
		bytes += uint64(len(kept)) * 8
	}
	for _, list := range own.lists {
		for ; list != nil; list = list.next {
			bytes += 40 + uint64(len(list.rest))
		}
	}
	return bytes
}

var before runtime.MemStats

// The books, while nothing works.
func audit(workers []*worker) {
	still.Lock()
	defer still.Unlock()
	runtime.GC()
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	var kept uint64
	for _, own := range workers {
		kept += own.keptBytes()
	}
	for _, rule := range []struct {
		holds bool
		what  string
	}{
		{now.HeapInuse+now.HeapIdle == now.HeapSys, "HeapInuse + HeapIdle = HeapSys"},
		{now.HeapReleased <= now.HeapIdle, "HeapReleased <= HeapIdle"},
		{now.HeapAlloc <= now.HeapInuse, "HeapAlloc <= HeapInuse"},
		{now.StackInuse <= now.StackSys, "StackInuse <= StackSys"},
		{now.MSpanInuse <= now.MSpanSys, "MSpanInuse <= MSpanSys"},
		{now.Frees <= now.Mallocs, "Frees <= Mallocs"},
		{now.HeapAlloc >= kept, "HeapAlloc is at least what is kept"},
		// A size class wastes an eighth at most.
		{now.HeapAlloc <= kept+kept/8+besideBytes, "HeapAlloc is little more than what is kept"},
		{now.Mallocs > before.Mallocs && now.TotalAlloc > before.TotalAlloc, "Mallocs and TotalAlloc grow"},
		{now.Frees >= before.Frees, "Frees do not shrink"},
		{now.NumGC > before.NumGC && now.PauseTotalNs >= before.PauseTotalNs, "NumGC and PauseTotalNs grow"},
	} {
		if !rule.holds {
			now.PauseNs, now.PauseEnd = [256]uint64{}, [256]uint64{}
			wrong("%s: does not hold: kept %d, %+v", rule.what, kept, now)
		}
	}
	before = now
}

func main() {
	count, _ := strconv.Atoi(os.Args[1])
	pause, _ := strconv.Atoi(os.Args[2])
	var workers []*worker
	for number := 0; number < count; number++ {
		own := &worker{number: uint64(number)}
		workers = append(workers, own)
		go func() {
			for {
				own.act()
				if pause > 0 {
					time.Sleep(time.Duration(pause) * time.Microsecond)
				}
			}
		}()
	}
	fmt.Println("ready")
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		audit(workers)
		fmt.Println("done", atomic.LoadUint64(&rounds))
	}
	still.Lock()
}
