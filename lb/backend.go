package lb

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// maxWeight bounds Backend.Weight; it is also the bound of LVS.
const maxWeight = 65535

// Backend is the configuration of one server of a pool.
type Backend struct {
	// Name identifies the backend within its pool: in SetHealth, in Status, in
	// logs, and in consistent hashing, where both nodes of a cluster must use the
	// same names. Default: Address.
	Name string
	// Address is host:port, or unix: and a path. A host name is resolved anew
	// by [Pool.Run]; where that does not run, at each connection.
	Address string
	// Weight is the share of traffic relative to the other backends, 1 to
	// 65535. Default 1.
	Weight int
	// Backup marks a backend that is used only while no other is available.
	Backup bool
	// Drain keeps new connections away; those that are established go on.
	Drain bool
	// MaxConns bounds the connections or requests that the pool has given
	// to this backend and that are not done. 0: no bound.
	MaxConns int
}

// validate checks b and fills in its defaults.
func (b *Backend) validate() error {
	if b.Address == "" {
		return errors.New("no address")
	}
	if b.Name == "" {
		b.Name = b.Address
	}
	if path, ok := strings.CutPrefix(b.Address, "unix:"); ok {
		if path == "" {
			return fmt.Errorf("address %q: no path", b.Address)
		}
	} else if err := validateHostPort(b.Address); err != nil {
		return err
	}
	if b.Weight == 0 {
		b.Weight = 1
	}
	if b.Weight < 0 || b.Weight > maxWeight {
		return fmt.Errorf("weight %d: want 1 to %d", b.Weight, maxWeight)
	}
	if b.MaxConns < 0 {
		return fmt.Errorf("max conns %d: must not be negative", b.MaxConns)
	}
	return nil
}

func validateHostPort(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("address %q: want host:port", address)
	}
	if host == "" {
		return fmt.Errorf("address %q: no host", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("address %q: port %q: want 1 to 65535", address, port)
	}
	return nil
}

// network splits an address as Backend.Address has it for net.Dial.
func network(address string) (string, string) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return "unix", path
	}
	return "tcp", address
}
