package lb

import (
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

// validHeader checks a name and value from the configuration (RFC 9110 §5).
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

// upgradeOf is the protocol that a message wants to switch to, if any.
func upgradeOf(h http.Header) string {
	if !hasToken(h["Connection"], "Upgrade") {
		return ""
	}
	return h.Get("Upgrade")
}

// requestHeader is what backends get to see.
func (x *exchange) requestHeader() http.Header {
	h := x.in.Header.Clone()
	upgrade := upgradeOf(h)
	trailers := hasToken(h["Te"], "trailers")
	// First what the client may remove, then what we add.
	removeHopByHop(h)
	if trailers {
		h.Set("Te", "trailers")
	}
	// An h2c tunnel would carry requests past everything that is checked here.
	if upgrade != "" && !strings.EqualFold(upgrade, "h2c") && x.in.ProtoMajor == 1 {
		h.Set("Connection", "Upgrade")
		h.Set("Upgrade", upgrade)
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = nil // Or net/http would add its own.
	}
	x.forward(h)
	x.set(h, x.h.RequestHeaders, "", "")
	return h
}

// forward adds the headers that tell whose request it is.
func (x *exchange) forward(h http.Header) {
	peer := x.client.Addr()
	trusted := slices.ContainsFunc(x.h.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(peer) })
	prior := h["X-Forwarded-For"]
	if len(x.h.TrustedProxies) > 0 && !trusted {
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
func (x *exchange) responseHeader(res *http.Response, pick Pick) {
	removeHopByHop(res.Header)
	h := x.w.Header()
	for name, values := range res.Header {
		h[name] = values
	}
	if res.Header["Date"] == nil {
		h["Date"] = nil // It is not for us to say when the answer was made.
	}
	if res.Header["Content-Type"] == nil {
		h["Content-Type"] = nil // Nor what it is.
	}
	for name := range res.Trailer {
		h.Add("Trailer", name)
	}
	x.set(h, x.h.ResponseHeaders, pick.Backend(), addrString(addrPort(x.source).Addr()))
}
