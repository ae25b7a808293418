package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

var scaleTime = flag.Duration("scale.time", time.Minute, "how long BenchmarkScale watches each pair")

// scaleRouters is every VRID that there is.
const scaleRouters = 255

// BenchmarkScale watches pairs of nodes with 255 virtual routers each, havip
// beside keepalived, with IPv4 and with IPv6:
//
//	go test ./internal/e2e -run '^$' -bench Scale -benchtime 1x -timeout 40m
//
// Both run at real-time priority 10, which is made for short intervals.
//
// cpu-A and cpu-B are percent of one core on the node that should hold all
// addresses and on the other; held-A and held-B the fewest and the most
// addresses that a node held in any second; transitions what both logged
// after the first settling.
func BenchmarkScale(b *testing.B) {
	lab.Need(b, "keepalived")
	for _, net := range []scaleNet{scaleIPv4, scaleIPv6} {
		for _, interval := range []time.Duration{time.Second, 100 * time.Millisecond, 10 * time.Millisecond} {
			name := fmt.Sprintf("%s/interval=%v/", net.family, interval)
			b.Run(name+"havip", func(b *testing.B) { scale(b, net, interval, scaleHavip(havip(b)), " msg=state ") })
			b.Run(name+"keepalived", func(b *testing.B) { scale(b, net, interval, scaleKeepalived, " STATE") })
		}
	}
}

// scaleNet is where the virtual addresses are, and nothing else.
type scaleNet struct {
	family string
	netip.Prefix
}

var (
	scaleIPv4 = scaleNet{"IPv4", netip.MustParsePrefix("10.0.1.0/24")}
	scaleIPv6 = scaleNet{"IPv6", netip.MustParsePrefix("fe80::a:0/120")}
)

// addr is the address of a virtual router, alone in its network.
func (n scaleNet) addr(vrid int) netip.Prefix {
	b := n.Addr().AsSlice()
	b[len(b)-1] = byte(vrid)
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, a.BitLen())
}

// scaleProgram writes the configuration of one node and returns its command.
type scaleProgram func(dir string, net scaleNet, priority int, interval time.Duration) ([]string, error)

func scale(b *testing.B, net scaleNet, interval time.Duration, program scaleProgram, transition string) {
	for range b.N {
		l := lab.New(b)
		var hosts [2]*lab.Host
		var cmds [2]*lab.Cmd
		for i, priority := range []int{200, 100} {
			hosts[i] = l.MustHost(fmt.Sprintf("node%d", i+1), fmt.Sprintf("10.0.0.%d/16", i+1))
			dir := b.TempDir()
			argv, err := program(dir, net, priority, interval)
			if err != nil {
				b.Fatal(err)
			}
			cmds[i] = hosts[i].Command(argv[0], argv[1:]...)
			cmds[i].Dir, cmds[i].Private = dir, true
			if err := cmds[i].Start(); err != nil {
				b.Fatal(err)
			}
		}
		// A pair that never settles is measured as it is.
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end) && (held(b, net, hosts[0]) != scaleRouters || held(b, net, hosts[1]) != 0); {
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		watchScale(b, net, hosts, cmds, transition)
		b.StopTimer()
		for _, c := range cmds {
			c.Stop(20 * time.Second)
		}
		l.Close()
		b.StartTimer()
	}
}

func watchScale(b *testing.B, net scaleNet, hosts [2]*lab.Host, cmds [2]*lab.Cmd, transition string) {
	var before [2]time.Duration
	var logged [2]int
	least, most := [2]int{scaleRouters, scaleRouters}, [2]int{}
	for i, c := range cmds {
		before[i], logged[i] = labtest.ProcessorTime(c.Pid()), strings.Count(c.Output(), transition)
	}
	start := time.Now()
	for time.Since(start) < *scaleTime {
		for i, h := range hosts {
			n := held(b, net, h)
			least[i], most[i] = min(least[i], n), max(most[i], n)
		}
		time.Sleep(time.Second)
	}
	elapsed := time.Since(start)
	transitions := 0
	for i, c := range cmds {
		name := string(rune('A' + i))
		b.ReportMetric(100*float64(labtest.ProcessorTime(c.Pid())-before[i])/float64(elapsed), "cpu%-"+name)
		b.ReportMetric(float64(least[i]), "held-least-"+name)
		b.ReportMetric(float64(most[i]), "held-most-"+name)
		transitions += strings.Count(c.Output(), transition) - logged[i]
	}
	b.ReportMetric(float64(transitions), "transitions")
	b.ReportMetric(0, "ns/op") // says nothing here
}

// held counts the virtual addresses on a host.
func held(b *testing.B, net scaleNet, h *lab.Host) int {
	addrs, err := h.Addrs()
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for _, a := range addrs {
		if net.Contains(a.Addr()) {
			n++
		}
	}
	return n
}

func scaleHavip(exe string) scaleProgram {
	return func(dir string, net scaleNet, priority int, interval time.Duration) ([]string, error) {
		var c bytes.Buffer
		c.WriteString("vrrp:\n")
		for vrid := 1; vrid <= scaleRouters; vrid++ {
			fmt.Fprintf(&c, "  - {name: VI_%d, interface: eth0, vrid: %d, priority: %d, interval: %v, addresses: [%q]}\n",
				vrid, vrid, priority, interval, net.addr(vrid))
		}
		file := filepath.Join(dir, "havip.yaml")
		return []string{exe, "run", "--realtime", "10", "-c", file}, os.WriteFile(file, c.Bytes(), 0o600)
	}
}

func scaleKeepalived(dir string, net scaleNet, priority int, interval time.Duration) ([]string, error) {
	var c bytes.Buffer
	c.WriteString("global_defs {\n\tvrrp_version 3\n\tvrrp_rt_priority 10\n\tvrrp_rlimit_rttime 10000000\n}\n")
	for vrid := 1; vrid <= scaleRouters; vrid++ {
		fmt.Fprintf(&c, `vrrp_instance VI_%d {
	interface eth0
	state BACKUP
	virtual_router_id %d
	priority %d
	advert_int %g
	virtual_ipaddress {
		%v dev eth0
	}
}
`, vrid, vrid, priority, interval.Seconds(), net.addr(vrid))
	}
	file := filepath.Join(dir, "keepalived.conf")
	return keepalivedCommand(dir, file), os.WriteFile(file, c.Bytes(), 0o600)
}
