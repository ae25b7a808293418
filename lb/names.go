package lb

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/words"
)

// Resolve says which addresses of a name are used.
type Resolve uint8

// The ways.
const (
	ResolveAll   Resolve = iota // each address is a backend
	ResolveFirst                // one address at a time
)

var resolves = []string{"all", "first"}

// String returns "all" or "first".
func (r Resolve) String() string { return words.Of(resolves, r) }

// MarshalText implements encoding.TextMarshaler.
func (r Resolve) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Resolve) UnmarshalText(text []byte) error { return words.Parse(resolves, text, r) }

// hostname is what a pool knows of a backend whose address is a name, whichever addresses the
// name has now.
type hostname struct {
	backend  string     // its Name
	address  string     // its Address
	answer   []endpoint // Pool.updating guards it
	added    bool       // by Update
	answered bool       // before the latest roster

	asking, asked atomic.Bool
	unresolved    bool // when last asked

	// Pool.mu guards what was said of the backend as a whole, which is for addresses
	// that come later too, and the servers that were dialled by name before there was an
	// answer: they drain when the backend is removed.
	down, draining bool
	early          []*server
}

// host is what the resolver is asked for.
func (n *hostname) host() string {
	if isSRV(n.address) {
		return n.address
	}
	return Backend{Address: n.address}.host()
}

// endpoint is one address of an answer, in the order of preference.
type endpoint struct {
	to     netip.AddrPort
	target string // of an SRV record, with
	weight int    // its weight; 0: the backend's
	backup bool   // and a priority that is not the best
}

// isSRV reports whether an address is the name of SRV records (RFC 2782), such as
// _http._tcp.example.org. A host's name has no such labels.
func isSRV(address string) bool {
	labels := strings.SplitN(address, ".", 3)
	return len(labels) == 3 && strings.HasPrefix(labels[0], "_") && strings.HasPrefix(labels[1], "_")
}

// validateSRV checks the form of the name of SRV records.
func validateSRV(address string) error {
	service, rest, _ := strings.Cut(address, ".")
	proto, domain, _ := strings.Cut(rest, ".")
	port := strings.LastIndexByte(address, ':')
	if port >= 0 {
		return field.Errorf("Address", "%q: the port is in the SRV records: want %q", address, address[:port])
	}
	whole := service != "_" && proto != "_" && strings.Trim(domain, ".") != "" && !strings.Contains(domain, "..") &&
		!strings.HasPrefix(domain, ".") && !strings.ContainsAny(address, "/ \t[]") && len(address) <= 254
	return field.If(!whole, "Address", "%q: want the name of SRV records such as _http._tcp.example.org", address)
}

// host is the name in the address of b, which its TLS certificate is for; for SRV records
// the domain that has them, since they are no proof of anything (RFC 6125 §6.2.1). It is
// empty for a path.
func (b Backend) host() string {
	if isSRV(b.Address) {
		return strings.TrimSuffix(strings.SplitN(b.Address, ".", 3)[2], ".")
	}
	network, address := network(b.Address)
	host, _, err := net.SplitHostPort(address)
	if network == "unix" || err != nil {
		return ""
	}
	return host
}

// hasName reports whether the address of b must be resolved.
func (b Backend) hasName() bool {
	host := b.host()
	_, err := netip.ParseAddr(host)
	return host != "" && err != nil
}

// isMany reports whether b may become any number of backends, or weigh anything.
func (b Backend) isMany() bool { return isSRV(b.Address) || b.hasName() && b.Resolve == ResolveAll }

// expand returns the members that b becomes, without their servers: one for each address
// of its name. n is nil if it has none. before has what is in use.
func (b Backend) expand(n *hostname, before *roster) []*member {
	whole := &member{Backend: b, origin: n, connectTo: b.Address, authority: b.Address}
	if n == nil {
		return []*member{whole}
	}
	if len(n.answer) == 0 {
		if isSRV(b.Address) {
			return nil
		}
		return []*member{whole} // dialled by its name until there is an answer
	}
	if b.Resolve == ResolveFirst {
		return []*member{b.at(n, cmp.Or(before.keeps(b, n.answer), n.answer[0]), b.Name)}
	}
	var all []*member
	for _, e := range n.answer {
		all = append(all, b.at(n, e, b.Name+"/"+e.to.String()))
	}
	return all
}

// keeps returns the endpoint of an answer that b, which has one at a time, has already; the
// zero endpoint: none.
func (r *roster) keeps(b Backend, answer []endpoint) endpoint {
	m := r.find(b.Name)
	i := slices.IndexFunc(answer, func(e endpoint) bool { return m != nil && m.connectTo == e.to.String() && !e.backup })
	if i < 0 {
		return endpoint{}
	}
	return answer[i]
}

// at is the member that b has at an address.
func (b Backend) at(n *hostname, e endpoint, as string) *member {
	m := &member{Backend: b, origin: n, connectTo: e.to.String(), authority: b.Address}
	m.Name = as
	if e.target != "" {
		_, port, _ := net.SplitHostPort(m.connectTo)
		m.authority = net.JoinHostPort(b.host(), port)
		if b.Weight > 0 { // or the backend drains
			m.Weight = cmp.Or(e.weight, b.Weight)
		}
		m.Backup = b.Backup || e.backup
	}
	return m
}

// namesOf returns what is known of the names among backends, by the names of the backends.
// p.updating is held.
func (p *Pool) namesOf(backends []Backend, before *roster) map[string]*hostname {
	names, answers := make(map[string]*hostname), make(map[string][]endpoint)
	if before != nil {
		for _, n := range before.names {
			answers[n.address] = n.answer
		}
	}
	for _, b := range backends {
		if !b.hasName() {
			continue
		}
		n := before.name(b.Name)
		if n == nil || n.address != b.Address {
			n = &hostname{backend: b.Name, address: b.Address, answer: answers[b.Address], added: before != nil}
		}
		names[b.Name] = n
	}
	return names
}

// name returns what is known of the name of a backend; nil if it has none, or there is no
// roster.
func (r *roster) name(backend string) *hostname {
	if r == nil {
		return nil
	}
	return r.names[backend]
}
