package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/havip/havip/internal/lab"
)

// frr is where the daemons are.
const frr = "/usr/lib/frr/"

// frrPeer is FRR's vrrpd with its zebra. It has addresses on a macvlan
// interface with the virtual router's hardware address, which it gives a
// carrier while it is Active.
var frrPeer = peer{
	name: "frr", state: " -> ",
	configure: frrConfigure,
	holds: func(n *node, r *virtualRouter) bool {
		link, err := n.host.Netlink().LinkByName(frrInterface(r))
		return err == nil && link.Attrs().OperState == netlink.OperUp
	},
	mac: frrMAC,
}

func frrInterface(r *virtualRouter) string { return fmt.Sprintf("vrrp%d", r.vrid) }

// frrMAC is the virtual router's hardware address (RFC 9568 §7.3).
func frrMAC(r *virtualRouter) net.HardwareAddr {
	mac := net.HardwareAddr{0, 0, 0x5e, 0, 1, r.vrid}
	if r.ipv6 {
		mac[4] = 2
	}
	return mac
}

// frrConfigure writes a script that gives a host of FRR what it needs: zebra,
// which stays when vrrpd is stopped, and interfaces that are up, but have no
// carrier before vrrpd says so.
func frrConfigure(n *node, routers []virtualRouter, dir string) ([]string, error) {
	var links, conf bytes.Buffer
	var names []string
	conf.WriteString("log stdout\ninterface eth0\n")
	for _, r := range routers {
		names = append(names, frrInterface(&r))
		fmt.Fprintf(&links, "\tlink %s %v", frrInterface(&r), frrMAC(&r))
		fmt.Fprintf(&conf, " vrrp %d version %d\n vrrp %[1]d priority %[3]d\n vrrp %[1]d advertisement-interval %[4]d\n",
			r.vrid, r.version, r.priority[n.side], interval.Milliseconds())
		key := "ip"
		if r.ipv6 {
			key = "ipv6"
		}
		for _, a := range r.addresses {
			fmt.Fprintf(&links, " %v", a)
			fmt.Fprintf(&conf, " vrrp %d %s %v\n", r.vrid, key, a.Addr())
		}
		links.WriteString("\n")
	}
	if err := os.WriteFile(filepath.Join(dir, "vrrpd.conf"), conf.Bytes(), 0o600); err != nil {
		return nil, err
	}
	// The daemons insist on a group that an ordinary user's namespace has not.
	script := `set -eu
PATH=$PATH:/sbin:/usr/sbin
echo frrvty:x:0:root > group
mount --bind group /etc/group
options="-u root -g frrvty -z $PWD/zserv --vty_socket $PWD -A 127.0.0.1 -P 0"
link() {
	ip link del $1 2> /dev/null || true
	ip link add $1 link eth0 address $2 type macvlan mode bridge
	ip link set $1 protodown on
	for addr in "${@:3}"; do ip addr add $addr dev $1; done
	ip link set $1 up
}
if ! kill -0 $(cat zebra.pid 2> /dev/null || echo none) 2> /dev/null; then
	rm -f zserv
` + links.String() + `	` + frr + `zebra $options -i $PWD/zebra.pid &
	while [ ! -S zserv ]; do sleep 0.05; done
fi
` + frr + `vrrpd $options -i $PWD/vrrpd.pid -f $PWD/vrrpd.conf &
trap 'kill $!' TERM
wait $! || wait $! || true
# What vrrpd says at its end does not always get to zebra.
for name in ` + strings.Join(names, " ") + `; do ip link set $name protodown on; done
`
	file := filepath.Join(dir, "start")
	return []string{"bash", file}, os.WriteFile(file, []byte(script), 0o600)
}

// TestFRR: havip and FRR share addresses in the ways that vrrpd knows, through
// most of what TestInterop has.
func TestFRR(t *testing.T) {
	t.Parallel()
	lab.Need(t, frr+"vrrpd", frr+"zebra", "bash", "ip")
	better, equal := [2]uint8{120, 110}, [2]uint8{100, 100}
	routers := []virtualRouter{
		newRouter("v2", 71, 2, "", false, false, better),
		newRouter("v2, equal priorities", 72, 2, "", false, false, equal),
		newRouter("v3 IPv4", 73, 3, "", false, false, better),
		newRouter("v3 IPv4, equal priorities", 74, 3, "", false, false, equal),
		// FRR's source address comes from the virtual hardware address: of
		// equal priorities it wins on either host.
		newRouter("v3 IPv6", 75, 3, "", true, false, better),
	}
	h := havipPeer(t)
	for _, peers := range [][2]peer{{h, frrPeer}, {frrPeer, h}} {
		t.Run("LB-01 "+peers[0].name+"/LB-02 "+peers[1].name, func(t *testing.T) {
			t.Parallel()
			newPair(t, peers, routers).live(life[:8])
		})
	}
}
