package sni

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"testing"
)

// hello is what crypto/tls sends for that name.
func hello(t testing.TB, name string, versions ...uint16) []byte {
	t.Helper()
	client, server := net.Pipe()
	cfg := &tls.Config{ServerName: name, InsecureSkipVerify: true}
	if len(versions) > 0 {
		cfg.MinVersion, cfg.MaxVersion = versions[0], versions[0]
	}
	go func() {
		tls.Client(client, cfg).Handshake()
		client.Close()
	}()
	defer server.Close()
	head := make([]byte, 5)
	if _, err := io.ReadFull(server, head); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, int(head[3])<<8|int(head[4]))
	if _, err := io.ReadFull(server, b); err != nil {
		t.Fatal(err)
	}
	return append(head, b...)
}

// fragmented spreads the records' content over records of n bytes.
func fragmented(b []byte, n int) []byte {
	var out []byte
	for content := b[5:]; len(content) > 0; {
		k := min(n, len(content))
		out = append(append(out, 22, 3, 1, byte(k>>8), byte(k)), content[:k]...)
		content = content[k:]
	}
	return out
}

func TestServerName(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS12, tls.VersionTLS13} {
		b := hello(t, "WWW.Example.org", version)
		for _, b := range [][]byte{b, fragmented(b, 100), fragmented(b, len(b)/maxRecords+1), append(bytes.Clone(b), "more"...)} {
			if name, _, err := ServerName(b); name != "www.example.org" || err != nil {
				t.Errorf("version %#x: %q, %v", version, name, err)
			}
		}
		for i := range b {
			if name, need, err := ServerName(b[:i]); err != io.ErrUnexpectedEOF || need <= i || need > len(b) {
				t.Fatalf("version %#x: the first %d bytes: %q, %d needed, %v", version, i, name, need, err)
			}
		}
	}
	// Who makes it last gets no more of our time than that.
	b := fragmented(hello(t, "a.test"), 1)
	calls, err := 0, error(nil)
	for i, need := 0, 0; i <= len(b) && (err == nil || err == io.ErrUnexpectedEOF); i++ {
		if i >= need {
			calls++
			_, need, err = ServerName(b[:i])
		}
	}
	if err != errNotTLS || calls > 2*maxRecords+1 {
		t.Errorf("a record for each byte: %v after %d attempts", err, calls)
	}
	if name, _, err := ServerName(hello(t, "")); name != "" || err != nil {
		t.Errorf("without SNI: %q, %v", name, err)
	}
	for _, b := range []string{"GET / HTTP/1.1\r\n", "\x16\x02", "\x15\x03\x01\x00\x02\x01\x00", "\x16\x03\x01\x00\x01\x02",
		"\x16\x03\x01\x00\x04\x01\xff\xff\xff", "\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03", "\x16\x03\x01\x00\x00"} {
		if name, _, err := ServerName([]byte(b)); err == nil || err == io.ErrUnexpectedEOF {
			t.Errorf("%q: %q, %v; want an error", b, name, err)
		}
	}
}

func FuzzServerName(f *testing.F) {
	f.Add(hello(f, "a.test"))
	f.Add(fragmented(hello(f, "a.test", tls.VersionTLS12), 20))
	f.Add([]byte("\x16\x03\x01\x00\x04\x01\x00\x00\x00")) // an empty ClientHello
	f.Fuzz(func(t *testing.T, b []byte) {
		name, need, err := ServerName(b)
		if err != nil && name != "" {
			t.Errorf("%q and %v", name, err)
		}
		if err == io.ErrUnexpectedEOF && (need <= len(b) || need > 2*(4+maxHello)+5*maxRecords) {
			t.Errorf("asks for %d bytes after %d", need, len(b))
		}
		if err == nil {
			if again, _, err := ServerName(append(bytes.Clone(b), 0)); again != name || err != nil {
				t.Errorf("%q, with a byte more %q, %v", name, again, err)
			}
		}
	})
}
