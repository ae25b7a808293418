package lb

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/internal/quietlog"
)

// smallDisk returns a folder of a file system in memory that has room for size bytes. The file
// system is mounted nowhere: it is there for whoever has its descriptor, as long as that is open.
func smallDisk(t *testing.T, size int) (folder string) {
	t.Helper()
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		lab.Lacking(t, "fsopen(2) of a tmpfs, which takes root: "+err.Error())
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "size", fmt.Sprint(size)); err != nil {
		t.Fatal(err)
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		t.Fatal(err)
	}
	disk, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(disk) })
	return fmt.Sprintf("/proc/self/fd/%d", disk)
}

// TestFullDisk: where the disk is full in the middle of a body, that goes on as it comes and
// nothing of it is lost. No backend is blamed, the log says what to do, and bodies are held again
// once there is room.
func TestFullDisk(t *testing.T) {
	const size = 1 << 20
	content := numbered(size)
	for _, f := range bufferFronts() {
		for _, tt := range []struct {
			chunks bool
			memory int64 // of a body: less than a read brings, or more
		}{{false, 1 << 10}, {true, 1 << 10}, {false, 200_000}} {
			var log labtest.Log
			b := labtest.Record(t, labtest.Answers(anOK))
			folder := smallDisk(t, size/4)
			s := f.serve(t, HandlerConfig{Rules: Rules{BufferFolder: folder, BufferMemory: tt.memory}, Logger: slog.New(quietlog.Unblocked(slog.NewTextHandler(&log, nil)))},
				Backend{Address: b.Address})
			head, end := fmt.Sprintf("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size), ""
			if tt.chunks {
				head, end = inOnePut("", fmt.Sprintf("%x\r\n", size)), "\r\n0\r\n\r\n"
			}
			c := s.begin(t, head)
			_, _ = c.Write(content[:size/2])
			got := ""
			waitFor(t, f.name+": the backend to get what has come", func() bool {
				got += b.Bytes()
				return len(got) > size/2
			})
			_, _ = c.Write([]byte(string(content[size/2:]) + end))
			if status, _ := c.status(t); status != 200 {
				t.Errorf("%s: status %d", f.name, status)
			}
			got += b.Bytes()
			if _, sent, _ := strings.Cut(got, "\r\n\r\n"); !tt.chunks && !bytes.Equal([]byte(sent), content) {
				t.Errorf("%s: the backend gets %d bytes that are not those which were sent", f.name, len(sent))
			}
			if lines := log.Lines("level=WARN", "make room in the folder", "folder="+folder, "client=127.0.0.1", unix.ENOSPC.Error()); len(lines) != 1 {
				t.Errorf("%s: %q", f.name, log.String())
			}
			if st := s.handler.pool().Status().Backends[0]; st.Failures != 0 || st.Connects != 1 {
				t.Errorf("%s: %d failures, %d connections", f.name, st.Failures, st.Connects)
			}
			used := s.handler.settings.Load().bodies.used
			waitFor(t, "the request to end", func() bool { return used.Load() == 0 && s.handler.Stats().Active == 0 })
			s.begin(t, fmt.Sprintf("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", size, content[:tt.memory*5/4]))
			waitFor(t, f.name+": another body to be held", func() bool { return used.Load() > 0 })
		}
	}
}
