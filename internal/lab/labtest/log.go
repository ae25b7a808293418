package labtest

import (
	"bytes"
	"slices"
	"strings"
	"sync"
)

// Log is a writer whose text may be read while others write. The zero value is empty.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns what has been written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Take returns what has been written, and forgets it.
func (l *Log) Take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

// Reset forgets what has been written.
func (l *Log) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Reset()
}

// Count returns how often s was written.
func (l *Log) Count(s string) int { return strings.Count(l.String(), s) }

// Lines returns the lines that have all of parts.
func (l *Log) Lines(parts ...string) (list []string) {
	for line := range strings.Lines(l.String()) {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			list = append(list, line)
		}
	}
	return list
}
