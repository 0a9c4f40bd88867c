// The measured Go programs.
//
// usage: workload pages BLOCKS        a round: that many blocks of 8 to 56 KiB are allocated, filled, kept for a while, dropped
//        workload serve               answers HTTP requests with JSON; prints its address first
//        workload serve-compressed    the same, and compresses what it answers
//        workload drive ADDRESS COUNT  a round: that many requests to it
//
// Each prints "ready", does a round after a line on stdin, and prints the CPU ns that this process took since it printed
// last. What a server does in a round is what it is asked for from outside before the line.
package main

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
)

// Where blocks are kept: each worker has a window of them.
const workers, window = 2, 256

// A part of each block is filled once more: so there are some 60,000 events of the page heap a second on two CPUs.
const again = 5

var kept [workers][window][]byte

// pages allocates the blocks, each of which is a span of the page heap's own.
func pages(blocks int) {
	var group sync.WaitGroup
	for worker := 0; worker < workers; worker++ {
		group.Add(1)
		go func(worker int) {
			defer group.Done()
			random := uint32(worker + 1)
			for block := 0; block < blocks/workers; block++ {
				random = next(random)
				bytes := make([]byte, (1+(random>>16)%7)*8<<10)
				fill(bytes, random)
				fill(bytes[:len(bytes)/again], random)
				kept[worker][block%window] = bytes
			}
		}(worker)
	}
	group.Wait()
	kept = [workers][window][]byte{}
	debug.FreeOSMemory()
}

// fill is the work that is done on a block.
func fill(bytes []byte, seed uint32) {
	for i := range bytes {
		seed = next(seed)
		bytes[i] = byte(seed >> 24)
	}
}

func next(random uint32) uint32 {
	return random*1664525 + 1013904223
}

func cpu() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

// A record of the catalogue that is served.
type record struct {
	Number int
	Name   string
	Price  float64
	Tags   []string
}

const records, recordsAReply = 10_000, 20

// So many that the server always has something to do.
const connections = 8

// Compressors at the default level, as long as the collector leaves them.
var compressors = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

// serve answers with a part of the catalogue.
func serve(compressed bool) string {
	catalogue := make([]*record, records)
	for i := range catalogue {
		name := "record " + strconv.Itoa(i)
		catalogue[i] = &record{i, name, float64(i) / 100, []string{name + " a", name + " b"}}
	}
	http.HandleFunc("/records", func(reply http.ResponseWriter, request *http.Request) {
		from, err := strconv.Atoi(request.FormValue("from"))
		if err != nil || from < 0 || from > records-recordsAReply {
			http.Error(reply, "no such record", http.StatusBadRequest)
			return
		}
		reply.Header().Set("Content-Type", "application/json")
		part := catalogue[from : from+recordsAReply]
		if !compressed {
			json.NewEncoder(reply).Encode(part)
			return
		}
		reply.Header().Set("Content-Encoding", "gzip")
		compressor := compressors.Get().(*gzip.Writer)
		compressor.Reset(reply)
		json.NewEncoder(compressor).Encode(part)
		compressor.Close()
		compressors.Put(compressor)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(listener, nil)
	return listener.Addr().String()
}

// drive asks for parts of the catalogue, over connections that stay, with as little work of its own as can be.
func drive(address string, count int) {
	var group sync.WaitGroup
	for at := 0; at < connections; at++ {
		group.Add(1)
		go func(at int) {
			defer group.Done()
			connection, err := net.Dial("tcp", address)
			if err != nil {
				panic(err)
			}
			defer connection.Close()
			replies := bufio.NewReader(connection)
			for request := 0; request < count/connections; request++ {
				from := (request*7919 + at) % (records - recordsAReply)
				fmt.Fprintf(connection, "GET /records?from=%d HTTP/1.1\r\nHost: bench\r\n\r\n", from)
				reply, err := http.ReadResponse(replies, nil)
				if err != nil {
					panic(err)
				}
				if _, err := io.Copy(io.Discard, reply.Body); err != nil || reply.StatusCode != http.StatusOK {
					panic(reply.Status)
				}
			}
		}(at)
	}
	group.Wait()
}

func number(text string) int {
	number, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return number
}

func main() {
	round := func() {}
	switch os.Args[1] {
	case "pages":
		blocks := number(os.Args[2])
		round = func() { pages(blocks) }
	case "serve", "serve-compressed":
		fmt.Println(serve(os.Args[1] == "serve-compressed"))
	case "drive":
		address, count := os.Args[2], number(os.Args[3])
		round = func() { drive(address, count) }
	}
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for before := cpu(); lines.Scan(); before = cpu() {
		round()
		fmt.Println(cpu() - before)
	}
}
