package lb

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// hopByHop are the headers that concern one connection only (RFC 9110 §7.6.1),
// with the historical ones.
var hopByHop = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
}

// unsettable are the headers that the configuration may not touch: the framing of
// messages depends on them, and on what each side can do.
var unsettable = []string{
	"Connection", "Content-Length", "Expect", "Http2-Settings", "Keep-Alive", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade",
}

// notInTrailers are the fields that change how a message is framed, routed, or
// understood, or whose it is: too late for that in a trailer (RFC 9110 §6.5.1).
var notInTrailers = append([]string{
	"Authorization", "Cache-Control", "Content-Encoding", "Content-Range", "Content-Type", "Cookie", "Date",
	"Forwarded", "Host", "Location", "Max-Forwards", "Pragma",
	"Proxy-Authenticate", "Proxy-Authorization", "Range", "Retry-After", "Set-Cookie", "Vary", "Via",
	"Www-Authenticate", "X-Real-Ip",
}, unsettable...)

// validTrailer tells whether a field, in canonical form, may be in a trailer. headers are
// those that the configuration decides on.
func validTrailer(name string, headers map[string]string) bool {
	if !validHeader(name, "") || slices.Contains(notInTrailers, name) ||
		strings.HasPrefix(name, "If-") || strings.HasPrefix(name, "X-Forwarded-") {
		return false
	}
	for configured := range headers {
		if strings.EqualFold(configured, name) {
			return false
		}
	}
	return true
}

// copyTrailer adds a field to a trailer.
func copyTrailer(trailer http.Header, name string, values []string) {
	for _, value := range values {
		if validHeader(name, value) {
			trailer[name] = append(trailer[name], value)
		}
	}
}

// hasToken tells whether one of the comma-separated lists in lines has token.
func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(item), token) {
				return true
			}
		}
	}
	return false
}

// validHeader checks a field's name and value (RFC 9110 §5).
func validHeader(name, value string) bool {
	token := func(r rune) bool {
		return r > ' ' && r < 0x7f && !strings.ContainsRune("\"(),/:;<=>?@[\\]{}", r)
	}
	text := func(r rune) bool { return r == '\t' || r >= ' ' && r != 0x7f }
	return name != "" && strings.IndexFunc(name, func(r rune) bool { return !token(r) }) < 0 &&
		strings.IndexFunc(value, func(r rune) bool { return !text(r) }) < 0
}

func removeHopByHop(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
}

// upgradesOf are the protocols that a message wants to switch to, if any. Those that
// would carry requests past everything that is checked here are not among them.
func upgradesOf(h http.Header) []string {
	if !hasToken(h["Connection"], "Upgrade") {
		return nil
	}
	var protocols []string
	for p := range strings.SplitSeq(strings.Join(h["Upgrade"], ","), ",") {
		name, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(p)), "/")
		if name != "" && name != "h2c" && name != "http" && name != "tls" {
			protocols = append(protocols, strings.TrimSpace(p))
		}
	}
	return protocols
}

// requestHeader is what backends get to see.
func (x *exchange) requestHeader() http.Header {
	h := x.in.Header.Clone()
	if h == nil {
		h = make(http.Header)
	}
	upgrades := upgradesOf(h)
	trailers := hasToken(h["Te"], "trailers")
	h.Del("Content-Length")
	// First what the client may remove, then what we add.
	removeHopByHop(h)
	if trailers {
		h.Set("Te", "trailers")
	}
	// HTTP/1.0 has no upgrades (RFC 9110 §7.8), HTTP/2 other ones.
	if len(upgrades) > 0 && x.in.ProtoMajor == 1 && x.in.ProtoMinor > 0 {
		h.Set("Connection", "Upgrade")
		h.Set("Upgrade", strings.Join(upgrades, ", "))
		x.upgrades = upgrades
	}
	x.forward(h)
	x.set(h, x.cfg.RequestHeaders, "", "")
	return h
}

// requestHost is the Host that backends get, which is not among the headers: the one in h
// if there was one in the configuration, or the client's. Without any, which HTTP/1.0
// allows, it is the address that the client has connected to.
func (x *exchange) requestHost(h http.Header) string {
	for name := range x.cfg.RequestHeaders {
		if strings.EqualFold(name, "Host") {
			defer delete(h, name)
			return h[name][0]
		}
	}
	if x.in.Host != "" {
		return x.in.Host
	}
	local, _ := x.in.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil || !addrPort(local).IsValid() {
		return ""
	}
	return addrPort(local).String()
}

// writeHead writes the request line and the header.
func (x *exchange) writeHead(w *bufio.Writer, body, expect bool) {
	// Errors stay until Flush.
	fmt.Fprintf(w, "%s %s HTTP/1.1\r\nHost: %s\r\n", x.in.Method, x.in.URL.RequestURI(), x.host)
	switch {
	case !body:
		// Some servers insist on it where a body is usual.
		if _, ok := x.in.Header["Content-Length"]; ok || slices.Contains([]string{"POST", "PUT", "PATCH"}, x.in.Method) {
			fmt.Fprint(w, "Content-Length: 0\r\n")
		}
	case x.in.ContentLength >= 0:
		fmt.Fprintf(w, "Content-Length: %d\r\n", x.in.ContentLength)
	default:
		fmt.Fprint(w, "Transfer-Encoding: chunked\r\n")
		if len(x.trailers) > 0 {
			fmt.Fprintf(w, "Trailer: %s\r\n", strings.Join(x.trailers, ", "))
		}
	}
	var exclude map[string]bool
	if !expect {
		exclude = map[string]bool{"Expect": true}
	}
	_ = x.header.WriteSubset(w, exclude)
	fmt.Fprint(w, "\r\n")
}

// requestTrailers are the names of the trailers that backends get: those that the
// client has announced.
func (x *exchange) requestTrailers() []string {
	var names []string
	for name := range x.in.Trailer {
		if validTrailer(name, x.cfg.RequestHeaders) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// forward adds the headers that tell whose request it is.
func (x *exchange) forward(h http.Header) {
	peer := x.client.Addr()
	trusted := slices.ContainsFunc(x.cfg.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(peer) })
	prior := h["X-Forwarded-For"]
	if len(x.cfg.TrustedProxies) > 0 && !trusted {
		prior = nil
	}
	delete(h, "X-Forwarded-For")
	if peer.IsValid() {
		prior = append(slices.Clone(prior), peer.String())
	}
	if len(prior) > 0 {
		h.Set("X-Forwarded-For", strings.Join(prior, ", "))
	}
	scheme := "http"
	if x.in.TLS != nil {
		scheme = "https"
	}
	for name, value := range map[string]string{
		"X-Forwarded-Proto": scheme, "X-Forwarded-Host": x.in.Host, "X-Real-Ip": addrString(peer),
	} {
		if trusted && h.Get(name) != "" {
			continue
		}
		h.Del(name)
		if value != "" {
			h.Set(name, value)
		}
	}
}

func addrString(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// set applies RequestHeaders or ResponseHeaders.
func (x *exchange) set(h http.Header, values map[string]string, backend, source string) {
	if len(values) == 0 {
		return
	}
	local, _ := x.in.Context().Value(http.LocalAddrContextKey).(net.Addr)
	localIP := ""
	if local != nil {
		localIP = addrString(addrPort(local).Addr())
	}
	expand := strings.NewReplacer("${client}", addrString(x.client.Addr()), "${local}", localIP,
		"${backend}", backend, "${source}", source)
	for name, value := range values {
		h.Del(name)
		if value != "" {
			h[name] = []string{expand.Replace(value)}
		}
	}
}

// responseHeader prepares the header that the client gets.
func (x *exchange) responseHeader(res *http.Response) {
	removeHopByHop(res.Header)
	h := x.w.Header()
	maps.Copy(h, res.Header)
	x.set(h, x.cfg.ResponseHeaders, x.pick.Backend(), x.source())
	// It is not for us to say when the answer was made, or what it is.
	for _, name := range []string{"Date", "Content-Type"} {
		if _, ok := h[name]; !ok {
			h[name] = nil // Or net/http would.
		}
	}
	if x.chunked() {
		for name := range res.Trailer {
			if validTrailer(name, x.cfg.ResponseHeaders) {
				x.announced = append(x.announced, name)
				h.Add("Trailer", name)
			}
		}
	}
}

// source is this host's address in the connection to the backend.
func (x *exchange) source() string { return addrString(addrPort(x.up.LocalAddr()).Addr()) }
