package xconnect_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/havip/havip/internal/xconnect"
)

// In a program that has this package, net/http takes extended CONNECT, and the environment is
// what it was.
func TestNetHTTPTakesExtendedConnect(t *testing.T) {
	was := os.Getenv("GODEBUG")
	if !strings.HasSuffix(was, "http2xconnect=1") {
		t.Errorf("before Restore GODEBUG is %q", was)
	}
	xconnect.Restore()
	if now := os.Getenv("GODEBUG"); now != strings.TrimSuffix(strings.TrimSuffix(was, "http2xconnect=1"), ",") {
		t.Errorf("GODEBUG was %q, and is %q", was, now)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Protocols: new(http.Protocols)}
	srv.Protocols.SetUnencryptedHTTP2(true)
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, http2.ClientPreface)
	f := http2.NewFramer(c, c)
	_ = f.WriteSettings()
	frame, err := f.ReadFrame()
	settings, ok := frame.(*http2.SettingsFrame)
	if err != nil || !ok {
		t.Fatalf("%v, %v", frame, err)
	}
	if v, _ := settings.Value(http2.SettingEnableConnectProtocol); v != 1 {
		t.Errorf("ENABLE_CONNECT_PROTOCOL is %d", v)
	}
}
