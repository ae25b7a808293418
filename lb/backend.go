package lb

import (
	"cmp"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"strings"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/words"
)

// MaxWeight is the greatest Weight of a Backend, as in LVS.
const MaxWeight = 65535

// Backend is the configuration of one server of a pool.
type Backend struct {
	// Name identifies the backend within its pool: in SetHealth, in Status, in
	// logs, and in consistent hashing, where both nodes of a cluster must use the
	// same names. Default: Address.
	Name string
	// Address is host:port, the name of SRV records such as _http._tcp.example.org,
	// without a port, or unix: and a path. Names are resolved by [Pool.Run]. A host where
	// that does not run, or has no answer yet, is resolved at each connection.
	Address string
	// Resolve says what becomes of a name with several addresses. By default each is a
	// backend, with health, counters, Weight and MaxConns of its own, and named after the
	// backend and the address: app/192.0.2.1:80. Those of SRV records have their records'
	// weight, and are backups unless their priority is the best.
	Resolve Resolve
	// Weight is the share of traffic relative to the other backends, 1 to
	// 65535. Default 1. Negative: none, which is what Drain means.
	Weight int
	// Backup marks a backend that is used only while no other is available.
	Backup bool
	// Drain keeps new connections away; those that are established go on. A backend that
	// drains counts neither for the quorum nor for panic. A pool of such backends alone
	// has no backend: ErrNoBackend.
	Drain bool
	// MaxConns bounds the connections or requests that the pool has given
	// to this backend and that are not done. 0: no bound.
	MaxConns int
	// TLS takes the place of a plane's BackendTLS. Without a ServerName the host of
	// Address is verified. nil: as the plane has it.
	TLS *tls.Config `json:"-"`
}

// WithDefaults returns b with its zero fields filled in.
func (b Backend) WithDefaults() Backend {
	b.Name = cmp.Or(b.Name, b.Address)
	b.Weight = cmp.Or(b.Weight, 1)
	return b
}

// Validate returns what is wrong with b: FieldErrors, joined.
func (b Backend) Validate() error {
	b = b.WithDefaults()
	return errors.Join(
		validateAddress(b.Address),
		validateBackendTLS("TLS", b.TLS, b),
		field.If(!words.Has(resolves, b.Resolve), "Resolve", "%v: want %s", b.Resolve, words.Choice(resolves)),
		field.Between("Weight", max(b.Weight, 0), 0, MaxWeight),
		field.Between("MaxConns", b.MaxConns, 0, maxCount))
}

// validateBackendTLS checks that cfg, which may be nil, can verify the backend.
func validateBackendTLS(name string, cfg *tls.Config, b Backend) error {
	nameless := cfg != nil && cfg.ServerName == "" && !cfg.InsecureSkipVerify
	return field.If(nameless && strings.HasPrefix(b.Address, "unix:"),
		name, "backend %s: TLS over a Unix socket needs a ServerName to verify", b.Name)
}

func validateAddress(address string) error {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return field.If(path == "", "Address", "%q: want a path after unix:", address)
	}
	if isSRV(address) {
		return validateSRV(address)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return field.Errorf("Address", "%q: want host:port, the name of SRV records, or unix: and a path", address)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return field.If(err != nil || n == 0, "Address", "%q: port %q: want 1 to 65535", address, port)
}

// network splits an address as Backend.Address has it for net.Dial.
func network(address string) (string, string) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return "unix", path
	}
	return "tcp", address
}
