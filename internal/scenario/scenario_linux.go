package scenario

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/havip/havip/internal/lab"
)

const servicePort = "8080"

// The addresses of the reference scenario.
var (
	// VIP is the shared address.
	VIP = netip.MustParsePrefix("192.168.31.250/24")

	lbAddrs    = [2]netip.Addr{netip.MustParseAddr("192.168.31.240"), netip.MustParseAddr("192.168.31.241")}
	priorities = [2]uint8{120, 110}
	appAddr    = netip.MustParseAddr("192.168.31.242")
	clientAddr = netip.MustParseAddr("192.168.31.10")
	appPorts   = [3]uint16{8080, 8081, 8082}
)

func appName(i int) string { return fmt.Sprintf("APP-%02d", i+1) }

// Config says what runs where.
type Config struct {
	Params Params
	// VRRP and Balancer are the programs of LB-01 and LB-02.
	VRRP, Balancer [2]Program
	// Backends starts the three web servers on their host. Default: servers
	// inside this process.
	Backends func(h *lab.Host, dir string) error
	// Private gives each program a /run of its own.
	Private bool
}

// Scenario is a running lab with the reference scenario's hosts.
type Scenario struct {
	LB     [2]*Node
	Client *Client

	params   Params
	backends []*http.Server
}

// New builds the hosts on l and starts the web servers, but neither load
// balancer. dir is a folder for configuration files.
func New(l *lab.Lab, dir string, cfg Config) (*Scenario, error) {
	s := &Scenario{params: cfg.Params}
	for i, addr := range lbAddrs {
		h, err := l.Host(fmt.Sprintf("lb%02d", i+1), netip.PrefixFrom(addr, VIP.Bits()))
		if err != nil {
			return nil, err
		}
		s.LB[i] = &Node{
			Name: fmt.Sprintf("LB-%02d", i+1), Addr: addr, Peer: lbAddrs[1-i], Priority: priorities[i],
			Params: cfg.Params, VRRP: cfg.VRRP[i], Balancer: cfg.Balancer[i],
			Private: cfg.Private, host: h, dir: filepath.Join(dir, h.Name()),
		}
	}
	if err := s.startBackends(l, filepath.Join(dir, "app"), cfg.Backends); err != nil {
		return nil, err
	}
	client, err := l.Host("client", netip.PrefixFrom(clientAddr, VIP.Bits()))
	if err != nil {
		return nil, err
	}
	s.Client = &Client{
		URL:     "http://" + net.JoinHostPort(VIP.Addr().String(), servicePort) + "/",
		Dial:    client.DialContext,
		Every:   max(2*time.Millisecond, min(10*time.Millisecond, cfg.Params.Interval/20)),
		Timeout: max(200*time.Millisecond, cfg.Params.Interval),
	}
	return s, nil
}

func (s *Scenario) startBackends(l *lab.Lab, dir string, start func(*lab.Host, string) error) error {
	h, err := l.Host("app", netip.PrefixFrom(appAddr, VIP.Bits()))
	if err != nil {
		return err
	}
	if start != nil {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		return start(h, dir)
	}
	for i, port := range appPorts {
		ln, err := h.Listen("tcp", netip.AddrPortFrom(appAddr, port).String())
		if err != nil {
			return err
		}
		s.backends = append(s.backends, serveBackend(ln, appName(i)))
	}
	return nil
}

// Close ends the programs and the web servers. The lab is the caller's.
func (s *Scenario) Close() {
	for _, n := range s.LB {
		n.host.Kill()
	}
	for _, b := range s.backends {
		b.Close()
	}
}

// Holders returns the load balancers that have the virtual address now.
func (s *Scenario) Holders() []*Node {
	return slices.DeleteFunc(slices.Clone(s.LB[:]), func(n *Node) bool { return !n.Holds() })
}

// waitHolder waits until want alone holds the address.
func (s *Scenario) waitHolder(ctx context.Context, want *Node) error {
	return poll(ctx, func() error {
		holders := s.Holders()
		if len(holders) == 1 && holders[0] == want {
			return nil
		}
		return fmt.Errorf("%s should hold %v alone, but %s", want.Name, VIP.Addr(), describe(holders))
	})
}

func describe(holders []*Node) string {
	switch len(holders) {
	case 0:
		return "nobody holds it"
	case 1:
		return holders[0].Name + " holds it"
	}
	return "both hold it"
}
