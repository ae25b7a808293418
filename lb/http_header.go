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

	"github.com/havip/havip/internal/inet"
)

// requestHeader returns the header that backends get. forwards is the Max-Forwards; empty:
// it stays as it is.
func (x *handling) requestHeader(forwards string) http.Header {
	h := x.in.Header.Clone()
	if h == nil {
		h = make(http.Header)
	}
	upgrades := upgradesOf(h)
	trailers := hasToken(h["Te"], "trailers")
	x.dropNames(h)
	h.Del("Content-Length")
	h.Del("Host") // of HTTP/2; requestHost returns the one that counts
	// The client may remove headers by Connection, but not those that are added below.
	removeHopByHop(h)
	var options []string // of the connection to the backend
	if trailers {
		h.Set("Te", "trailers")
		options = append(options, "TE") // RFC 9110 §10.1.4
	}
	if forwards != "" {
		h.Set("Max-Forwards", forwards)
	}
	// HTTP/1.0 has no upgrades (RFC 9110 §7.8), and those of HTTP/2 are different.
	if len(upgrades) > 0 && x.in.ProtoMajor == 1 && x.in.ProtoMinor > 0 {
		h.Set("Upgrade", strings.Join(upgrades, ", "))
		options = append(options, "Upgrade")
		x.upgrades = upgrades
	}
	if len(options) > 0 {
		h.Set("Connection", strings.Join(options, ", "))
	}
	x.setForwarded(h)
	x.setHeaders(h, x.cfg.RequestHeaders, "", "")
	return h
}

// dropNames removes the headers that are dropped for their names. An application that
// misses one says nothing of it: the log does.
func (x *handling) dropNames(h http.Header) {
	var dropped []string
	maps.DeleteFunc(h, func(name string, _ []string) bool {
		drops := x.cfg.folds.dropsName(name)
		if drops {
			dropped = append(dropped, name)
		}
		return drops
	})
	if len(dropped) > 0 {
		x.cfg.log.Debug("headers dropped for their names", "client", x.client, "names", dropped)
	}
}

// requestHost returns the Host that backends get, and removes it from h: the configured
// one, or else the client's. Where the client sends none, as HTTP/1.0 allows, the Host is
// the address that the client has connected to.
func (x *handling) requestHost(h http.Header) string {
	for name := range x.cfg.RequestHeaders {
		if strings.EqualFold(name, "Host") {
			host := h[name][0]
			delete(h, name)
			if a, err := netip.ParseAddr(host); err == nil && a.Is6() { // of ${local}
				host = "[" + host + "]"
			}
			return host
		}
	}
	if x.in.Host != "" {
		return x.in.Host
	}
	if local := x.localAddr(); local.IsValid() {
		return local.String()
	}
	return ""
}

// localAddr returns the address that the client has connected to; zero if it is unknown.
func (x *handling) localAddr() netip.AddrPort {
	local, _ := x.in.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return inet.AddrPort(local)
}

// requestTrailers returns the names of the trailers that backends get: those that the
// client has announced.
func (x *handling) requestTrailers() []string {
	names := slices.Sorted(maps.Keys(x.in.Trailer))
	return slices.DeleteFunc(names, func(name string) bool {
		return x.cfg.folds.dropsName(name) || !validTrailer(name, x.cfg.RequestHeaders)
	})
}

// writeHead writes the request line and the header. A write error stays in w until Flush.
func (x *handling) writeHead(w *bufio.Writer, body, expect bool) {
	fmt.Fprintf(w, "%s %s HTTP/1.1\r\nHost: %s\r\n", x.in.Method, x.target, x.host)
	switch {
	case !body:
		// Some servers insist on a length where a body is usual.
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
	_ = x.header.WriteSubset(w, map[string]bool{"Expect": !expect})
	fmt.Fprint(w, "\r\n")
}

// setForwarded sets the headers that tell backends about the client.
func (x *handling) setForwarded(h http.Header) {
	peer := x.client.Addr()
	trusted := containsAddr(x.cfg.TrustedProxies, peer)
	// What a stranger claims about others is dropped as soon as proxies are trusted by name.
	prior := h["X-Forwarded-For"]
	if len(x.cfg.TrustedProxies) > 0 && !trusted {
		prior = nil
		delete(h, "Forwarded")
	}
	delete(h, "X-Forwarded-For")
	if peer.IsValid() {
		prior = append(slices.Clone(prior), addrString(peer))
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
		// A trusted proxy is nearer to the client, and knows better.
		if trusted && h.Get(name) != "" {
			continue
		}
		h.Del(name)
		if value != "" {
			h.Set(name, value)
		}
	}
}

// responseHeader sets the header that the client gets.
func (x *handling) responseHeader(res *http.Response) {
	upgrade := res.Header["Upgrade"]
	removeHopByHop(res.Header)
	h := x.w.Header()
	maps.Copy(h, res.Header)
	x.setHeaders(h, x.cfg.ResponseHeaders, x.pick.Backend(), x.sourceAddr())
	// net/http would add what it takes the body for. It adds a missing Date too, as a
	// proxy has to (RFC 9110 §6.6.1).
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil
	}
	x.fitStatus(h, res.StatusCode, upgrade)
	if x.chunked() {
		for name := range res.Trailer {
			if validTrailer(name, x.cfg.ResponseHeaders) {
				x.announced = append(x.announced, name)
				h.Add("Trailer", name)
			}
		}
	}
}

// fitStatus makes a header fit to go with a status. upgrade is the backend's Upgrade.
func (x *handling) fitStatus(h http.Header, status int, upgrade []string) {
	switch {
	case status == http.StatusNoContent:
		delete(h, "Content-Length") // RFC 9110 §8.6
	case status == http.StatusNotModified:
		// These tell of the response to a GET. net/http removes them in HTTP/1, by this spelling.
		for _, name := range []string{"Content-Length", "Content-Type"} {
			if values, ok := h[name]; ok {
				delete(h, name)
				h[strings.ToLower(name)] = values
			}
		}
	case status == http.StatusUpgradeRequired && len(upgrade) > 0 && x.in.ProtoMinor > 0:
		// The client must learn which protocol is meant (RFC 9110 §15.5.22).
		// net/http goes by the first line of Connection, which may be close.
		h["Upgrade"] = upgrade
		h["Connection"] = append(h["Connection"], "Upgrade")
	}
}

// chunked reports whether the client gets the response in chunks.
func (x *handling) chunked() bool { return x.unbounded && x.in.ProtoAtLeast(1, 1) }

// sourceAddr returns this host's address in the connection to the backend.
func (x *handling) sourceAddr() string { return addrString(inet.AddrPort(x.up.LocalAddr()).Addr()) }

// setHeaders applies RequestHeaders or ResponseHeaders.
func (x *handling) setHeaders(h http.Header, values map[string]string, backend, source string) {
	if len(values) == 0 {
		return
	}
	expand := strings.NewReplacer("${client}", addrString(x.client.Addr()), "${local}", addrString(x.localAddr().Addr()),
		"${backend}", backend, "${source}", source)
	for name, value := range values {
		h.Del(name) // in any case: the configured name may be written in another one
		if value != "" {
			h[name] = []string{expand.Replace(value)}
		} else {
			h[http.CanonicalHeaderKey(name)] = nil // net/http adds none either
		}
	}
}
