package healthcheck

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// healthServer answers health checks over HTTP/2 with what answer writes.
func healthServer(t *testing.T, secure *tls.Config, answer func(w http.ResponseWriter, r *http.Request, service string)) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.URL.Path != "/grpc.health.v1.Health/Check" ||
			r.Header.Get("Content-Type") != "application/grpc" || r.Header.Get("Te") != "trailers" || len(body) < 5 {
			http.Error(w, "no health check", http.StatusBadRequest)
			return
		}
		var service string
		if msg := body[5:]; len(msg) > 0 { // field 1, a string
			size, n := binary.Uvarint(msg[1:])
			service = string(msg[1+n:][:size])
		}
		w.Header().Set("Content-Type", "application/grpc")
		answer(w, r, service)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Config.Protocols = new(http.Protocols)
	if secure != nil {
		s.Config.Protocols.SetHTTP2(true)
		s.TLS = secure
		s.EnableHTTP2 = true
		s.StartTLS()
	} else {
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func address(s *httptest.Server) string { return s.Listener.Addr().String() }

// reply writes a message and trailers as a gRPC server does.
func reply(w http.ResponseWriter, msg []byte, trailers ...string) {
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(msg))), msg...))
	for i := 0; i < len(trailers); i += 2 {
		w.Header().Set(http.TrailerPrefix+trailers[i], trailers[i+1])
	}
}

func TestGRPC(t *testing.T) {
	usual := func(w http.ResponseWriter, r *http.Request, service string) {
		switch service {
		case "", "shop.Orders":
			reply(w, []byte{1 << 3, 1}, "Grpc-Status", "0")
		case "shop.Closed":
			reply(w, []byte{1 << 3, 2}, "Grpc-Status", "0")
		case "shop.Newer": // a later version's fields around the one that counts
			reply(w, []byte{2<<3 | 2, 3, 'a', 'b', 'c', 3<<3 | 1, 1, 2, 3, 4, 5, 6, 7, 8, 1 << 3, 1, 4<<3 | 5, 1, 2, 3, 4, 5 << 3, 0x80, 1}, "Grpc-Status", "0")
		case "shop.Strange":
			reply(w, []byte{1 << 3, 77}, "Grpc-Status", "0")
		case "shop.Slow":
			sleep(r, 300*time.Millisecond)
			reply(w, []byte{1 << 3, 1}, "Grpc-Status", "0")
		case "shop.Silent":
			sleep(r, time.Minute)
		case "shop.Garbage":
			reply(w, []byte{1 << 3, 0x80}, "Grpc-Status", "0")
		case "shop.NoTrailer":
			reply(w, []byte{1 << 3, 1})
		case "shop.Flood":
			for {
				if _, err := w.Write(make([]byte, 10000)); err != nil {
					return
				}
			}
		default: // a response of trailers only: they are in the header
			w.Header().Set("Grpc-Status", "5")
			w.Header().Set("Grpc-Message", "unknown service%0A"+service)
		}
	}
	plain := address(healthServer(t, nil, usual))
	ca := newAuthority(60 * day)
	secure := address(healthServer(t, &tls.Config{Certificates: []tls.Certificate{ca.issue("grpc.example.com", -day, day)}}, usual))
	authority := address(healthServer(t, nil, func(w http.ResponseWriter, r *http.Request, _ string) {
		if r.Host == "orders.internal" && r.Header.Get("Grpc-Timeout") != "" {
			reply(w, []byte{1 << 3, 1}, "Grpc-Status", "0")
		}
	}))
	page := address(healthServer(t, nil, func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Set("Content-Type", "text/html")
	}))
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	of := func(service string) GRPC { return GRPC{Address: plain, Service: service} }
	runCheckCases(t, []checkCase{
		{name: "server as a whole", checker: of("")},
		{name: "a service", checker: of("shop.Orders")},
		{name: "with TLS", checker: GRPC{Address: secure, TLS: ca.trust("grpc.example.com")}},
		{name: "with TLS, wrong name", checker: GRPC{Address: secure, TLS: ca.trust("example.org")}, want: "not example.org"},
		{name: "authority and timeout", checker: GRPC{Address: authority, Authority: "orders.internal"}},
		{name: "not serving", checker: of("shop.Closed"), want: `service "shop.Closed" is NOT_SERVING`},
		{name: "unknown status", checker: of("shop.Strange"), want: "in status 77"},
		{name: "unknown service", checker: of("shop.None"), want: `gRPC status "5": "unknown service\nshop.None"`},
		{name: "unknown fields", checker: of("shop.Newer")},
		{name: "no trailers", checker: of("shop.NoTrailer"), want: "without a gRPC status"},
		{name: "garbage", checker: of("shop.Garbage"), want: "malformed HealthCheckResponse"},
		{name: "slow", checker: of("shop.Slow")},
		{name: "silent", checker: of("shop.Silent"), patience: patience, want: "healthcheck: grpc"},
		{name: "oversized", checker: of("shop.Flood"), want: "exceeds 65536 bytes"},
		{name: "HTTP/1.1 server", checker: GRPC{Address: address(web)}, want: "healthcheck: grpc"},
		{name: "HTTP/2 but not gRPC", checker: GRPC{Address: page}, want: `not gRPC: status "200 OK", content type "text/html"`},
		{name: "half-open", checker: GRPC{Address: halfOpen(t)}, patience: patience, is: isTimeout},
		{name: "silent server", checker: GRPC{Address: labtest.Listen(t, silent)}, patience: patience, is: isTimeout},
		{name: "flood", checker: GRPC{Address: labtest.Listen(t, flood)}, want: "healthcheck: grpc"},
		{name: "closes", checker: GRPC{Address: labtest.Listen(t, saysAndCloses(""))}, want: "healthcheck: grpc"},
		{name: "refused", checker: GRPC{Address: lab.FreeAddress(t)}, want: "connection refused"},
	})
	wantCancellable(t, GRPC{Address: halfOpen(t)})
}

func TestHealthRequest(t *testing.T) {
	if got, want := string(healthRequest("")), "\x00\x00\x00\x00\x00"; got != want {
		t.Errorf("request for the server is %q, want %q", got, want)
	}
	if got, want := string(healthRequest("a.B")), "\x00\x00\x00\x00\x05\x0a\x03a.B"; got != want {
		t.Errorf("request for a.B is %q, want %q", got, want)
	}
}

func FuzzHealthResponse(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x02\x08\x01"))             // SERVING
	f.Add([]byte("\x00\x00\x00\x00\x00"))                     // empty: status 0
	f.Add([]byte("\x01\x00\x00\x00\x02\x08\x01"))             // compressed
	f.Add([]byte("\x00\x00\x00\x00\x03\x12\x01x"))            // another field
	f.Add([]byte("\x00\x00\x00\x00\x06\x12\xff\xff\xff\xff")) // a length beyond the end
	f.Fuzz(func(t *testing.T, body []byte) {
		status, err := parseHealthResponse(body)
		if err != nil && status != 0 {
			t.Errorf("status %d with error %v", status, err)
		}
		if err == nil && (len(body) < 5 || body[0] != 0) {
			t.Errorf("%x is accepted", body)
		}
	})
}
