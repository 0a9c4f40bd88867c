// Prints where members of the runtime's structures lie in the program of the first argument, by its debug information:
// a line "structure.member offset" for each of the other arguments.
package main

import (
	"debug/dwarf"
	"debug/elf"
	"fmt"
	"os"
	"strings"
)

func main() {
	file, err := elf.Open(os.Args[1])
	check(err)
	data, err := file.DWARF()
	check(err)
	wanted := map[string]bool{}
	for _, name := range os.Args[2:] {
		wanted[name] = true
	}
	reader := data.Reader()
	for {
		entry, err := reader.Next()
		check(err)
		if entry == nil {
			break
		}
		if entry.Tag != dwarf.TagStructType {
			continue
		}
		kind, err := data.Type(entry.Offset)
		check(err)
		structure, ok := kind.(*dwarf.StructType)
		name := strings.TrimPrefix(kind.(*dwarf.StructType).StructName, "runtime.")
		if !ok || !strings.HasPrefix(structure.StructName, "runtime.") {
			continue
		}
		for _, field := range structure.Field {
			if full := name + "." + field.Name; wanted[full] {
				fmt.Println(full, field.ByteOffset)
			}
		}
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
