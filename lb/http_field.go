package lb

import (
	"bufio"
	"net/netip"
	"strings"

	"github.com/havip/havip/lb/internal/h1"
)

// hopByHop are the headers that concern one connection only (RFC 9110 §7.6.1), the
// historical ones included.
var hopByHop = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
}

// unsettable are the headers that a configuration may not touch: the framing of messages
// depends on them, or they say what one side of the proxy can do.
var unsettable = []string{
	"Connection", "Content-Length", "Expect", "Http2-Settings", "Keep-Alive", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade",
}

// unsettableWhy is what to do instead, of those that are often set.
var unsettableWhy = map[string]string{
	"Connection": "leave it out, upgrades are passed on and connections are kept",
	"Keep-Alive": "leave it out, connections are kept",
	"Upgrade":    "leave it out, upgrades are passed on",
}

// validHeader reports whether a field's name and value are valid (RFC 9110 §5).
func validHeader(name, value string) bool {
	notInName := func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"(),/:;<=>?@[\\]{}", r) }
	notInValue := func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
	return name != "" && !strings.ContainsFunc(name, notInName) && !strings.ContainsFunc(value, notInValue)
}

// endChunks ends a chunked body, after its last chunk (RFC 9112 §7.1.2).
func endChunks(w *bufio.Writer, trailer []h1.Field) error {
	_, _ = w.Write(h1.AppendFields(w.AvailableBuffer(), trailer)) // an error stays in w until Flush
	_, _ = w.WriteString("\r\n")
	return w.Flush()
}

// addrString returns the text of a for backends; empty if a is not valid. To them a zone,
// an interface of this host, means nothing, and most of them take it for no address.
func addrString(a netip.Addr) string { return string(appendAddr(nil, a)) }

// appendAddr appends addrString(a).
func appendAddr(b []byte, a netip.Addr) []byte { return a.WithZone("").AppendTo(b) }
