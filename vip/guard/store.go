package guard

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sync"
)

// store keeps wills in a file that two processes share. The writer may die at any moment.
//
// The file is a sequence of regions, one for each name and some that are free. A
// region is a header (magic u32, capacity u32) and two slots; a slot is generation
// u64, length u32, CRC-32 u32 and capacity bytes. The writer always overwrites the
// older slot; the reader takes the valid slot with the higher generation.
//
// A region is free only if its newest slot is empty. Generations are counted for the whole
// file and only rise, so the content of a former name is older than the empty slot. If the
// writer dies while it fills a free region for another name, the reader finds the region
// empty.
type store struct {
	file io.WriterAt

	mu         sync.Mutex
	generation uint64 // of the latest slot
	regions    map[string]*region
	left       []*region // without a name, and perhaps with content in force
	free       []*region // empty
	end        int64
}

type region struct {
	offset   int64
	capacity int
	older    int64 // the slot that is not in force: 0 or 1
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

// set replaces the content under a name. Empty content removes the name.
func (s *store) set(name string, content []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Regions that an earlier error has left go, too.
	return errors.Join(s.put(name, content), s.empty())
}

func (s *store) put(name string, content []byte) error {
	old := s.regions[name]
	switch {
	case len(content) == 0:
		delete(s.regions, name)
	case old != nil && len(content) <= old.capacity:
		return s.write(old, content)
	default:
		r, err := s.take(len(content))
		if err != nil {
			return err
		}
		if err := s.write(r, content); err != nil {
			// The whole content may be in the file: the slot may have held the same before.
			s.left = append(s.left, r)
			return err
		}
		s.regions[name] = r
	}
	// The old content is in force until its region is emptied: better twice than not at all.
	if old != nil {
		s.left = append(s.left, old)
	}
	return nil
}

// empty frees the regions that were left.
func (s *store) empty() error {
	for len(s.left) > 0 {
		if err := s.write(s.left[0], nil); err != nil {
			return err
		}
		s.free = append(s.free, s.left[0])
		s.left = s.left[1:]
	}
	return nil
}

// take returns the smallest free region with room for so many bytes, or a new one.
func (s *store) take(length int) (*region, error) {
	best := -1
	for i, r := range s.free {
		if r.capacity >= length && (best < 0 || r.capacity < s.free[best].capacity) {
			best = i
		}
	}
	if best < 0 {
		return s.grow(max(2*length, minCapacity))
	}
	r := s.free[best]
	s.free = slices.Delete(s.free, best, best+1)
	return r, nil
}

// grow appends a region.
func (s *store) grow(capacity int) (*region, error) {
	r := &region{offset: s.end, capacity: capacity}
	b := binary.BigEndian.AppendUint32(nil, regionMagic)
	b = binary.BigEndian.AppendUint32(b, uint32(capacity))
	// The space first: a reader that finds the header finds the whole region.
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

// write fills the slot that is not in force. After an error the same slot is the next to be
// filled: the other one is the last that is known to be complete.
func (s *store) write(r *region, content []byte) error {
	s.generation++
	b := make([]byte, slotHeader, slotHeader+len(content))
	binary.BigEndian.PutUint64(b, s.generation)
	binary.BigEndian.PutUint32(b[8:], uint32(len(content)))
	b = append(b, content...)
	binary.BigEndian.PutUint32(b[12:], checksum(b))
	slot := r.offset + regionHeader + r.older*int64(slotHeader+r.capacity)
	if _, err := s.file.WriteAt(b, slot); err != nil {
		return fmt.Errorf("guard: store: %w", err)
	}
	r.older = 1 - r.older
	return nil
}

// checksum covers a slot but the checksum itself.
func checksum(slot []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(slot[:12]), crc32.IEEETable, slot[slotHeader:])
}

// contents returns the contents in force, one for each region of a store's file, the latest
// last. While a name moves to another region both contents are in force.
func contents(file []byte) [][]byte {
	type slot struct {
		generation uint64
		content    []byte
	}
	var found []slot
	for len(file) >= regionHeader && binary.BigEndian.Uint32(file) == regionMagic {
		size := slotHeader + int64(binary.BigEndian.Uint32(file[4:]))
		file = file[regionHeader:]
		if int64(len(file)) < 2*size {
			break
		}
		var newest slot
		for _, b := range [][]byte{file[:size], file[size : 2*size]} {
			if g, ok := readSlot(b); ok && g > newest.generation {
				newest = slot{g, b[slotHeader : slotHeader+binary.BigEndian.Uint32(b[8:])]}
			}
		}
		if len(newest.content) > 0 {
			found = append(found, newest)
		}
		file = file[2*size:]
	}
	slices.SortStableFunc(found, func(a, b slot) int { return cmp.Compare(a.generation, b.generation) })
	var out [][]byte
	for _, f := range found {
		out = append(out, f.content)
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
