package monitor

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/havip/havip/internal/lab"
)

var update = flag.Bool("monitor.update", false, "rewrite the golden output")

// recordings are what live routers have sent: internal/e2e's TestMonitor -monitor.record.
func recordings(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.pcap")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d recordings, %v", len(files), err)
	}
	return files
}

// read runs the monitor over a file that is given as standard input.
func read(t *testing.T, file []byte, change ...func(o *Options)) (string, int, error) {
	t.Helper()
	var out bytes.Buffer
	o := Options{File: "-", Stdin: bytes.NewReader(file), Out: &out}
	for _, f := range change {
		f(&o)
	}
	problems, err := Run(t.Context(), o)
	return out.String(), problems, err
}

// TestRecordings: the output for what live routers have sent.
func TestRecordings(t *testing.T) {
	for _, file := range recordings(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			var out bytes.Buffer
			problems, err := Run(t.Context(), Options{File: file, Out: &out})
			if err != nil {
				t.Fatal(err)
			}
			if last := strings.HasSuffix(out.String(), "no problems\n"); last != (problems == 0) {
				t.Errorf("%d problems, and the last line says otherwise", problems)
			}
			golden := strings.TrimSuffix(file, ".pcap") + ".txt"
			if *update {
				if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), out.String()); d != "" {
				t.Errorf("(-want +got), -monitor.update rewrites it:\n%s", d)
			}
		})
	}
}

// TestTshark: tshark decodes the same of each advertisement.
func TestTshark(t *testing.T) {
	lab.Need(t, "tshark")
	w := NewWatcher()
	var frames []Frame
	var got []string
	for _, file := range recordings(t) {
		for _, f := range framesOf(t, file) {
			frames = append(frames, f)
			for _, e := range w.Observe(f) {
				if e.Advertisement != nil {
					got = append(got, summed(&e))
				}
			}
		}
	}
	args := []string{"-r", "-", "-Y", "vrrp", "-T", "fields", "-E", "separator=|", "-E", "occurrence=a"}
	for _, f := range []string{"ip.src", "ipv6.src", "vrrp.virt_rtr_id", "vrrp.version", "vrrp.prio", "vrrp.adver_int", "vrrp.short_adver_int", "vrrp.ip_addr", "vrrp.ipv6_addr"} {
		args = append(args, "-e", f)
	}
	cmd := exec.Command("tshark", args...)
	cmd.Stdin = bytes.NewReader(ng(t, frames))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	var want []string
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimRight(line, "\n"), "|")
		seconds, _ := strconv.Atoi(f[5])
		centiseconds, _ := strconv.Atoi(f[6])
		interval := time.Duration(seconds)*time.Second + time.Duration(centiseconds)*10*time.Millisecond
		want = append(want, strings.Join([]string{f[0] + f[1], f[2], f[3], f[4], interval.String(), f[7] + f[8]}, " "))
	}
	if d := cmp.Diff(want, got); d != "" || len(want) < 50 {
		t.Errorf("%d advertisements, tshark and the monitor differ (-tshark +monitor):\n%s", len(want), d)
	}
}

// summed returns the fields of an advertisement that tshark shows as well.
func summed(e *Event) string {
	var addrs []string
	for _, addr := range e.Advertisement.Addresses {
		addrs = append(addrs, addr.String())
	}
	a := e.Advertisement
	return strings.Join([]string{
		a.Source.String(), strconv.Itoa(int(e.VRID)), strconv.Itoa(int(a.Version)), strconv.Itoa(int(a.Priority)),
		time.Duration(a.Interval).String(), strings.Join(addrs, ","),
	}, " ")
}

// framesOf returns the frames of a file.
func framesOf(t *testing.T, file string) (list []Frame) {
	t.Helper()
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	next, err := openFile(in)
	for err == nil {
		var f Frame
		if f, err = next(); err == nil {
			list = append(list, f)
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return list
}

// ng writes frames in Wireshark's format, as of one interface.
func ng(t *testing.T, frames []Frame) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := pcapgo.NewNgWriterInterface(&b, pcapgo.NgInterface{Name: "eth7", LinkType: layers.LinkTypeEthernet}, pcapgo.DefaultNgWriterOptions)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: f.Time, CaptureLength: len(f.Data), Length: f.Length}, f.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestFormats: the same frames in each format, and with compression, are said to be the
// same.
func TestFormats(t *testing.T) {
	const file = "testdata/wrong-password.pcap"
	plain, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	frames := framesOf(t, file)
	want, wanted, err := read(t, plain)
	if err != nil || wanted < 2 {
		t.Fatal(err)
	}
	zip := func(b []byte) []byte {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		z.Write(b)
		z.Close()
		return out.Bytes()
	}
	if got, problems, err := read(t, zip(plain)); got != want || problems != wanted || err != nil {
		t.Errorf("with gzip: %d problems, %v, %s", problems, err, cmp.Diff(want, got))
	}
	for name, b := range map[string][]byte{"pcapng": ng(t, frames), "pcapng with gzip": zip(ng(t, frames))} {
		got, problems, err := read(t, b)
		if err != nil || problems != wanted || strings.Count(got, "eth7") < len(frames)/2 {
			t.Errorf("%s: %d problems, %v:\n%s", name, problems, err, got)
		}
	}
}

// TestBadFiles: what is wrong with a file, and what is wanted.
func TestBadFiles(t *testing.T) {
	whole, err := os.ReadFile("testdata/ah.pcap")
	if err != nil {
		t.Fatal(err)
	}
	link := bytes.Clone(whole)
	link[20] = 105 // IEEE 802.11
	for _, tc := range []struct {
		name, want string
		file       []byte
		some       bool // what comes before is printed all the same
	}{
		{"empty", "standard input: empty: want a file of tcpdump -w or Wireshark", nil, false},
		{"short", "not a capture", []byte("ab"), false},
		{"text", "standard input: not a capture: want a file of tcpdump -w or Wireshark (pcap or pcapng)", []byte("vrrp_instance VI_1 {\n\tinterface eth0\n}\n"), false},
		{"cut in the middle of a frame", "standard input: the file ends in the middle of a frame", whole[:len(whole)-7], true},
		{"another link type", "link type 105 (802.11): want Ethernet", link, false},
		{"a header of pcapng and nothing else", "not a capture", []byte{0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, _, err := read(t, tc.file)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(out, " > ") != tc.some {
				t.Errorf("%v, want %q; it printed\n%s", err, tc.want, out)
			}
		})
	}
	if _, err := Run(t.Context(), Options{File: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "a directory: want a file") {
		t.Errorf("a directory: %v", err)
	}
}

// TestOptions: what the options leave out, and when they end the watch.
func TestOptions(t *testing.T) {
	plain, err := os.ReadFile("testdata/wrong-password.pcap")
	if err != nil {
		t.Fatal(err)
	}
	all, _, _ := read(t, plain)
	heard := strings.Count(all, " > ")
	frames := framesOf(t, "testdata/wrong-password.pcap")
	span := frames[len(frames)-1].Time.Sub(frames[0].Time)
	for _, tc := range []struct {
		name           string
		option         func(o *Options)
		advertisements int
		summaries      int
	}{
		{"none", func(*Options) {}, heard, 1},
		{"quiet", func(o *Options) { o.Quiet = true }, 0, 1},
		{"count", func(o *Options) { o.Count = 3 }, 3, 1},
		{"duration", func(o *Options) { o.Duration = 2500 * time.Millisecond }, 3, 1},
		{"every", func(o *Options) { o.Every = 3 * time.Second }, heard, 1 + int(span/(3*time.Second))},
	} {
		out, _, err := read(t, plain, tc.option)
		if n, s := strings.Count(out, " > "), strings.Count(out, "VRID  ROUTER"); err != nil || n != tc.advertisements || s != tc.summaries {
			t.Errorf("%s: %d advertisements and %d summaries, want %d and %d, %v:\n%s", tc.name, n, s, tc.advertisements, tc.summaries, err, out)
		}
	}
}

// TestJSON: each line is an object with its kind, and durations are numbers.
func TestJSON(t *testing.T) {
	plain, err := os.ReadFile("testdata/wrong-password.pcap")
	if err != nil {
		t.Fatal(err)
	}
	out, _, err := read(t, plain, func(o *Options) { o.JSON = true })
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for line := range strings.Lines(out) {
		var e struct {
			Kind          string
			Advertisement struct {
				Interval float64 `json:"interval_seconds"`
				MAC      string
			}
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		kinds[e.Kind]++
		if e.Kind == "advertisement" && (e.Advertisement.Interval != 1 || e.Advertisement.MAC == "") {
			t.Error(line)
		}
	}
	if kinds["problem"] < 2 || kinds["summary"] != 1 || kinds["advertisement"] < 5 || kinds["state"] < 1 || len(kinds) > 5 {
		t.Errorf("%v:\n%s", kinds, out)
	}
}

// TestInterrupted: the end of the context ends the watch of an input that does not end.
func TestInterrupted(t *testing.T) {
	plain, err := os.ReadFile("testdata/ah.pcap")
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	out := &ending{until: "+1.01s", do: cancel}
	go w.Write(plain)
	if problems, err := Run(ctx, Options{File: "-", Stdin: r, Out: out}); err != nil || problems != 0 {
		t.Errorf("%d problems, %v", problems, err)
	}
	if !strings.Contains(out.String(), "no problems") {
		t.Errorf("no summary:\n%s", out)
	}
}

// TestSilentInput: so it does before the input has said anything.
func TestSilentInput(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := Run(ctx, Options{File: "-", Stdin: r, Out: io.Discard}); err != nil {
		t.Error(err)
	}
}

// ending calls a function once something was written.
type ending struct {
	bytes.Buffer
	until string
	do    func()
}

func (e *ending) Write(b []byte) (int, error) {
	defer func() {
		if strings.Contains(e.String(), e.until) {
			e.do()
		}
	}()
	return e.Buffer.Write(b)
}
