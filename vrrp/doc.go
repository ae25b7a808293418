// Package vrrp implements the Virtual Router Redundancy Protocol, version 2
// (RFC 3768) and version 3 (RFC 9568), for IPv4 and IPv6, multicast and
// unicast, compatible on the wire with Keepalived.
//
// The package is built in three layers, each usable alone:
//
//   - the codec, [ParseAdvertisement] and [Advertisement.AppendBinary], turns
//     bytes into an [Advertisement] and back;
//   - the [Machine] is the state machine of RFC 9568 §6.4 as a value: it reads
//     no clock and opens no socket, it is told what happened and when, and
//     returns the [Action]s that must follow;
//   - a [Router] runs one Machine over a [Conn], which many routers share, and
//     a [Handler], which owns the addresses.
//
// What the addresses are and how they get onto an interface is the Handler's
// business; package vip has one that satisfies the interface.
package vrrp
