package healthcheck

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

var _ Watcher = File{}

// Watch calls changed when the file comes, goes or changes. It watches the directory
// with inotify(7): a file that does not exist cannot be watched.
func (c File) Watch(ctx context.Context, changed func()) error {
	path := filepath.Clean(c.Path)
	dir, name := filepath.Dir(path), filepath.Base(path)
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fail(c, fmt.Errorf("inotify: %w", err))
	}
	f := os.NewFile(uintptr(fd), "inotify")
	defer f.Close()
	const content = unix.IN_CREATE | unix.IN_CLOSE_WRITE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_DELETE |
		unix.IN_MOVED_FROM | unix.IN_MOVED_TO
	const self = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
	if _, err := unix.InotifyAddWatch(fd, dir, content|self); err != nil {
		return fail(c, fmt.Errorf("inotify: %s: %w", dir, err))
	}
	defer bindDeadline(ctx, f)()
	changed() // what happened before the watch began
	buf := make([]byte, 16<<10)
	for {
		n, err := f.Read(buf)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fail(c, fmt.Errorf("inotify: %w", err))
		}
		ours, gone := parseInotify(buf[:n], name)
		if ours {
			changed()
		}
		if gone {
			return fail(c, errors.New("inotify: the directory is gone"))
		}
	}
}

// parseInotify reads events of the kernel, struct inotify_event of inotify(7). ours
// reports an event about name, or lost events, which may have been about name. gone
// reports the end of the directory itself.
func parseInotify(b []byte, name string) (ours, gone bool) {
	for len(b) >= unix.SizeofInotifyEvent {
		mask := binary.NativeEndian.Uint32(b[4:])
		size := binary.NativeEndian.Uint32(b[12:])
		b = b[unix.SizeofInotifyEvent:]
		if uint64(size) > uint64(len(b)) {
			break
		}
		// The name is padded with zeros.
		if string(bytes.TrimRight(b[:size], "\x00")) == name || mask&unix.IN_Q_OVERFLOW != 0 {
			ours = true
		}
		if mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_IGNORED|unix.IN_UNMOUNT) != 0 {
			ours, gone = true, true
		}
		b = b[size:]
	}
	return ours, gone
}
