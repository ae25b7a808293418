package guard

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
	"sync"
)

// store keeps wills in two files that two processes share. The writer may die at any moment.
//
// Each file is a log of frames. A frame is CRC-32 u32, number u64, length u32 and that many
// bytes of entries; an entry is two blocks, a name and a content. Frames are appended to one
// of the files. When most of that file is out of date the other file begins anew, with one
// frame of everything that is in force: until that frame is whole, the former file counts.
//
// Numbers only rise. So the reader takes the file whose last frame has the highest number.
// And a log ends where a frame is not whole, or where its number is not higher than that of
// the frame before, as in what is left of an older log.
type store struct {
	mu     sync.Mutex
	files  [2]io.WriterAt    // the first is appended to
	end    int64             // of the log in the first file
	limit  int64             // where most of the log may be out of date
	number uint64            // of the latest frame
	live   map[string][]byte // entries by their names
}

const (
	frameHeader = 16
	// slack is how long a log may be that has hardly anything in force.
	slack = 4096
)

// newStore returns a store in two empty files.
func newStore(one, two io.WriterAt) *store {
	return &store{files: [2]io.WriterAt{one, two}, limit: slack, live: make(map[string][]byte)}
}

// set replaces the content under a name. Empty content removes the name. After an error the
// former content is in force, or the new one is: the new one for certain when the next set,
// of any name, succeeds.
func (s *store) set(name string, content []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	entry := appendBlock(appendBlock(nil, []byte(name)), content)
	s.live[name] = entry
	if len(content) == 0 {
		delete(s.live, name)
	}
	end, err := s.write(s.files[0], s.end, entry)
	if err != nil {
		s.limit = 0 // the log lacks an entry
		return err
	}
	s.end = end
	if s.end > s.limit {
		return s.renew()
	}
	return nil
}

// renew goes on in the other file, with all that is in force.
func (s *store) renew() error {
	all := slices.Concat(slices.Collect(maps.Values(s.live))...)
	end, err := s.write(s.files[1], 0, all)
	if err != nil {
		return err
	}
	slices.Reverse(s.files[:])
	s.end, s.limit = end, 2*end+slack
	return nil
}

// write writes a frame at an offset of a file.
func (s *store) write(file io.WriterAt, at int64, entries []byte) (end int64, err error) {
	s.number++
	frame := make([]byte, frameHeader, frameHeader+len(entries))
	binary.BigEndian.PutUint64(frame[4:], s.number)
	binary.BigEndian.PutUint32(frame[12:], uint32(len(entries)))
	frame = append(frame, entries...)
	binary.BigEndian.PutUint32(frame, crc32.ChecksumIEEE(frame[4:]))
	if _, err := file.WriteAt(frame, at); err != nil {
		return 0, fmt.Errorf("guard: store: %w", err)
	}
	return at + int64(len(frame)), nil
}

// contents returns the contents in force by their names, as a reader of the files finds them.
func contents(files ...[]byte) map[string][]byte {
	var newest uint64
	var entries []byte
	for _, file := range files {
		if number, list := readLog(file); number > newest {
			newest, entries = number, list
		}
	}
	found := make(map[string][]byte)
	for len(entries) > 0 {
		var name, content []byte
		name, entries = cutBlock(entries)
		content, entries = cutBlock(entries)
		found[string(name)] = content
	}
	maps.DeleteFunc(found, func(_ string, content []byte) bool { return len(content) == 0 })
	return found
}

// readLog returns the entries of a log, and the number of its last frame.
func readLog(file []byte) (number uint64, entries []byte) {
	for len(file) >= frameHeader {
		next := binary.BigEndian.Uint64(file[4:])
		size := frameHeader + int64(binary.BigEndian.Uint32(file[12:]))
		if next <= number || size > int64(len(file)) || binary.BigEndian.Uint32(file) != crc32.ChecksumIEEE(file[4:size]) {
			break
		}
		number, entries, file = next, append(entries, file[frameHeader:size]...), file[size:]
	}
	return number, entries
}
