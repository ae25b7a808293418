package lb

import (
	"net/netip"
	"strings"

	"github.com/havip/havip/lb/internal/h1"
)

// maxHops is how many proxies, one behind the other, are believed.
const maxHops = 64

// findClient sets client, and trusted. It is called when the settings of the request, of which
// TrustedProxies is one, are known.
func (x *exchange) findClient() {
	x.client, x.trusted = x.from.client, false
	proxies := x.cfg.TrustedProxies
	if len(proxies) == 0 || !containsAddr(proxies, x.client.Addr()) {
		return
	}
	x.trusted = true
	if holds(x.req.Has, h1.XForwardedFor) {
		x.client = realClient(x.req.Fields, x.client, proxies)
	}
}

// realClient returns the client in front of a proxy that is trusted, as nginx finds it with
// real_ip_recursive. Each proxy adds, at the end of X-Forwarded-For, who has connected to it.
// So the list is read from there, as long as those are trusted who have added to it: what
// comes before may be made up by the client. A malformed entry ends the list, and the proxy
// that has added it counts as the client. So does the first one of all if all are trusted.
func realClient(fields []h1.Field, peer netip.AddrPort, proxies []netip.Prefix) netip.AddrPort {
	client, hops := peer, 0
	for i := len(fields) - 1; i >= 0; i-- {
		if fields[i].ID != h1.XForwardedFor {
			continue
		}
		for rest, more := fields[i].Value, true; more; {
			var entry string
			rest, entry, more = cutLast(rest)
			if entry = strings.Trim(entry, " \t"); entry == "" {
				continue // RFC 9110 §5.6.1.2
			}
			a, ok := parseForwarded(entry)
			if !ok {
				return client
			}
			client = a
			if hops++; hops == maxHops || !containsAddr(proxies, a.Addr()) {
				return client
			}
		}
	}
	return client
}

// cutLast cuts a list before its last entry. more: something is left.
func cutLast(list string) (rest, last string, more bool) {
	if comma := strings.LastIndexByte(list, ','); comma >= 0 {
		return list[:comma], list[comma+1:], true
	}
	return "", list, false
}

// parseForwarded returns the address that an entry of X-Forwarded-For is. Some proxies add the
// port. A zone means something to the proxy only.
func parseForwarded(entry string) (netip.AddrPort, bool) {
	const longest = len("[0000:0000:0000:0000:0000:ffff:255.255.255.255]:65535")
	if len(entry) > longest {
		return netip.AddrPort{}, false
	}
	address := entry
	if inner, closed := strings.CutSuffix(entry, "]"); closed && entry[0] == '[' {
		address = inner[1:]
		if strings.IndexByte(address, ':') < 0 {
			return netip.AddrPort{}, false
		}
	} else if entry[0] == '[' || strings.Count(entry, ":") == 1 {
		a, err := netip.ParseAddrPort(entry)
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), err == nil && a.Addr().Zone() == ""
	}
	a, err := netip.ParseAddr(address)
	return netip.AddrPortFrom(a.Unmap(), 0), err == nil && a.Zone() == ""
}
