package scenario

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/havip/havip/internal/lab"
)

// Program writes the configuration of one program into dir and returns the
// command line that runs it in the foreground.
type Program func(n *Node, dir string) (argv []string, err error)

// Node is one of the two load balancers: a host that runs a program for VRRP
// and one that balances. They are two processes, so that the balancer can fail
// while VRRP lives, as on a host with Keepalived and nginx.
type Node struct {
	Name     string
	Addr     netip.Addr
	Peer     netip.Addr // the other load balancer
	Priority uint8
	Params   Params
	VRRP     Program
	Balancer Program
	// Private gives each program a /run of its own.
	Private bool

	host          *lab.Host
	dir           string
	vrrp, balance *lab.Cmd
}

// PowerOn connects the host to the network and starts both programs. It returns
// when the node listens for the other one.
func (n *Node) PowerOn() error {
	err := n.host.Restore()
	if err == nil {
		n.balance, err = n.start(n.Balancer, "balancer")
	}
	if err == nil {
		err = poll(context.Background(), n.balancerAnswers)
	}
	if err == nil {
		n.vrrp, err = n.start(n.VRRP, "vrrp")
	}
	if err == nil {
		err = poll(context.Background(), n.listens)
	}
	return err
}

func (n *Node) balancerAnswers() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := n.host.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", servicePort))
	if err != nil {
		return fmt.Errorf("%s: the balancer does not answer: %w", n.Name, err)
	}
	return c.Close()
}

// listens returns nil once the node takes part in the election: from then on only the
// protocol keeps the node from taking the address.
func (n *Node) listens() error {
	// What havip says, and Keepalived.
	if out := n.Output(); strings.Contains(out, "to=Backup") || strings.Contains(out, "Entering BACKUP STATE") {
		return nil
	}
	return fmt.Errorf("%s: does not take part in the election after %v", n.Name, bound)
}

// PowerOff is what pulling the plug does: no last advertisement is sent. The addresses
// of a host do not survive that, so they are removed behind the cut link.
func (n *Node) PowerOff() error {
	if err := n.host.Cut(); err != nil {
		return err
	}
	if err := n.host.Kill(); err != nil {
		return err
	}
	link, err := n.host.Netlink().LinkByName("eth0")
	if err != nil {
		return err
	}
	vip := &netlink.Addr{IPNet: &net.IPNet{IP: VIP.Addr().AsSlice(), Mask: net.CIDRMask(VIP.Bits(), 32)}}
	if err := n.host.Netlink().AddrDel(link, vip); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		return err // nil, or it was there and stays
	}
	return nil
}

// KillBalancer ends the balancer alone: the host and its VRRP stay alive.
func (n *Node) KillBalancer() { n.balance.Kill() }

// Output is what both programs have said since they were last started.
func (n *Node) Output() string {
	var out string
	for _, cmd := range []*lab.Cmd{n.balance, n.vrrp} {
		if cmd != nil {
			out += cmd.Output()
		}
	}
	return out
}

// Holds reports whether the host has the virtual address now.
func (n *Node) Holds() bool { return n.host.Holds(VIP.Addr()) }

func (n *Node) start(p Program, name string) (*lab.Cmd, error) {
	dir := filepath.Join(n.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	argv, err := p(n, dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", n.Name, name, err)
	}
	cmd := n.host.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Private = n.Private
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", n.Name, name, err)
	}
	return cmd, nil
}
