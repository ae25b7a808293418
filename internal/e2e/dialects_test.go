package e2e

import (
	"testing"

	"github.com/havip/havip/internal/lab"
)

// TestOldUnicastChecksum: a Keepalived with old_unicast_checksum, which hears
// no other form, and havip with checksum: old-unicast share addresses; and its
// advertisements are heard by a havip that sends the usual form, too.
func TestOldUnicastChecksum(t *testing.T) {
	t.Parallel()
	lab.Need(t, "keepalived")
	const unicast, iface = "    source: ", "\tinterface eth0\n"
	plain := havipPeer(t)
	h := edited(plain, "havip.yaml", unicast, "    checksum: old-unicast\n"+unicast)
	k := edited(keepalivedPeer, "keepalived.conf", iface, iface+"\told_unicast_checksum\n")
	for name, peers := range map[string][2]peer{"havip first": {h, k}, "keepalived first": {k, h}, "havip hears only": {k, plain}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, peers, []virtualRouter{newRouter("v3 IPv4", 51, 3, "", false, true, [2]uint8{120, 110})})
			p.live(life[:2])
			p.live(life[4:5])
		})
	}
}
