package guard

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
)

// store keeps wills in a file that two processes share, in such a way that
// the writer may die at any moment.
//
// The file is a sequence of regions, one for each name. A region is a header
// (magic u32, capacity u32) and two slots; a slot is generation u64, length u32,
// CRC-32 u32 and capacity bytes. The writer always overwrites the older slot; the
// reader takes the valid slot with the higher generation.
type store struct {
	file io.WriterAt

	mu      sync.Mutex
	regions map[string]*region
	end     int64
}

type region struct {
	offset     int64
	capacity   int
	generation uint64
}

const (
	regionMagic  = 0x68767769 // "hvwi"
	regionHeader = 8
	slotHeader   = 16
	minCapacity  = 512
)

func newStore(file io.WriterAt) *store {
	return &store{file: file, regions: make(map[string]*region)}
}

// set replaces the content under a name. Empty content is as good as none.
func (s *store) set(name string, content []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.regions[name]
	if old == nil && len(content) == 0 {
		return nil
	}
	if old != nil && len(content) <= old.capacity {
		return s.write(old, content)
	}
	r, err := s.grow(max(2*len(content), minCapacity))
	if err != nil {
		return err
	}
	if err := s.write(r, content); err != nil {
		return err
	}
	s.regions[name] = r
	if old != nil {
		return s.write(old, nil)
	}
	return nil
}

// grow appends a region.
func (s *store) grow(capacity int) (*region, error) {
	r := &region{offset: s.end, capacity: capacity}
	b := binary.BigEndian.AppendUint32(nil, regionMagic)
	b = binary.BigEndian.AppendUint32(b, uint32(capacity))
	// The space first: a reader that finds the header finds all of it.
	next := s.end + regionHeader + 2*int64(slotHeader+capacity)
	if _, err := s.file.WriteAt([]byte{0}, next-1); err != nil {
		return nil, fmt.Errorf("guard: store: %w", err)
	}
	if _, err := s.file.WriteAt(b, s.end); err != nil {
		return nil, fmt.Errorf("guard: store: %w", err)
	}
	s.end = next
	return r, nil
}

// write fills the slot that is not in force.
func (s *store) write(r *region, content []byte) error {
	r.generation++
	b := make([]byte, slotHeader, slotHeader+len(content))
	binary.BigEndian.PutUint64(b, r.generation)
	binary.BigEndian.PutUint32(b[8:], uint32(len(content)))
	b = append(b, content...)
	binary.BigEndian.PutUint32(b[12:], checksum(b))
	if _, err := s.file.WriteAt(b, r.slot(r.generation)); err != nil {
		return fmt.Errorf("guard: store: %w", err)
	}
	return nil
}

func (r *region) slot(generation uint64) int64 {
	return r.offset + regionHeader + int64(generation%2)*int64(slotHeader+r.capacity)
}

// checksum covers a slot but the checksum itself.
func checksum(slot []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(slot[:12]), crc32.IEEETable, slot[slotHeader:])
}

// contents returns what is in force in each region of a store's file.
func contents(file []byte) [][]byte {
	var out [][]byte
	for len(file) >= regionHeader && binary.BigEndian.Uint32(file) == regionMagic {
		size := slotHeader + int64(binary.BigEndian.Uint32(file[4:]))
		file = file[regionHeader:]
		if int64(len(file)) < 2*size {
			break
		}
		first, ok1 := readSlot(file[:size])
		second, ok2 := readSlot(file[size : 2*size])
		newest := file[:size]
		if ok2 && (!ok1 || second > first) {
			newest = file[size : 2*size]
		}
		if n := binary.BigEndian.Uint32(newest[8:]); (ok1 || ok2) && n > 0 {
			out = append(out, newest[slotHeader:slotHeader+n])
		}
		file = file[2*size:]
	}
	return out
}

// readSlot returns a slot's generation, and whether the slot is complete.
func readSlot(b []byte) (generation uint64, ok bool) {
	generation = binary.BigEndian.Uint64(b)
	n := int64(binary.BigEndian.Uint32(b[8:]))
	if generation == 0 || n > int64(len(b)-slotHeader) {
		return 0, false
	}
	return generation, checksum(b[:slotHeader+n]) == binary.BigEndian.Uint32(b[12:])
}
