package lb

import "net/netip"

// mix is the finalizer of splitmix64: every input bit changes half of the
// output bits.
func mix(h uint64) uint64 {
	h ^= h >> 30
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 27
	h *= 0x94d049bb133111eb
	return h ^ h>>31
}

// hashString is FNV-1a with a finalizer: FNV alone leaves the low bits of
// short strings poorly mixed. It is fixed for ever, because all nodes of a
// cluster, whatever their version, must agree.
func hashString[S string | []byte](s S) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return mix(h)
}

// hashAddr treats an IPv4 address and its IPv4-mapped form alike.
func hashAddr(a netip.Addr) uint64 {
	b := a.As16()
	return hashString(b[:])
}

// unit maps a hash to a number between 0 and 1, exclusive.
func unit(h uint64) float64 { return (float64(h>>11) + 0.5) / (1 << 53) }
