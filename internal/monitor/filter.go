package monitor

import (
	"slices"

	"golang.org/x/net/bpf"
)

// EtherTypes, and offsets in what follows the link layer's header.
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd
	etherVLAN = 0x8100
	etherQinQ = 0x88a8

	ipv4Protocol = 9
	ipv6Next     = 6
	ipv6Payload  = 40
	vlanLen      = 4

	icmpv6                = 58
	neighborAdvertisement = 136
)

// extensions are the next headers behind which there may be an advertisement: hop-by-hop,
// routing, fragment, destination options.
var extensions = []uint32{0, 43, 44, 60}

// filter is the kernel's part of the watch, so that a busy host's other traffic costs
// nothing: VRRP, CARP and AH, ARP, and neighbour advertisements. It sees packets with or
// without their Ethernet header.
func filter(ethernet bool) []bpf.Instruction {
	const etherType, header = 12, 14
	if !ethernet {
		return append([]bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtProto}}, match(0)...)
	}
	// A tag that is still in the frame hides the type.
	tagged := append([]bpf.Instruction{bpf.LoadAbsolute{Off: etherType + vlanLen, Size: 2}}, match(header+vlanLen)...)
	return slices.Concat([]bpf.Instruction{
		bpf.LoadAbsolute{Off: etherType, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherVLAN, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherQinQ, SkipTrue: uint8(len(tagged))},
	}, tagged, match(header))
}

// match decides by the EtherType in A about a packet that begins at an offset.
func match(at uint32) []bpf.Instruction {
	keep, drop := bpf.RetConstant{Val: 1 << 16}, bpf.RetConstant{Val: 0}
	v6 := []bpf.Instruction{
		bpf.LoadAbsolute{Off: at + ipv6Next, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmpv6, SkipTrue: 3},
		bpf.LoadAbsolute{Off: at + ipv6Payload, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: neighborAdvertisement, SkipFalse: 1},
		keep,
	}
	for _, next := range append([]uint32{protocolVRRP, protocolAH}, extensions...) {
		v6 = append(v6, bpf.JumpIf{Cond: bpf.JumpEqual, Val: next, SkipFalse: 1}, keep)
	}
	v6 = append(v6, drop)
	v4 := []bpf.Instruction{
		bpf.LoadAbsolute{Off: at + ipv4Protocol, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: protocolVRRP, SkipFalse: 1}, keep,
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: protocolAH, SkipFalse: 1}, keep,
		drop,
	}
	return slices.Concat(
		[]bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherARP, SkipFalse: 1}, keep},
		[]bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherIPv4, SkipTrue: uint8(len(v4))}}, v4,
		[]bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherIPv6, SkipTrue: uint8(len(v6))}}, v6,
		[]bpf.Instruction{drop},
	)
}
