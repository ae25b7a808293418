// Package vrrp implements the Virtual Router Redundancy Protocol, version 2
// (RFC 3768) and version 3 (RFC 9568), for IPv4 and IPv6, multicast and
// unicast, compatible on the wire with Keepalived.
//
// The package is built in three layers, each usable alone:
//
//   - the codec, [ParseAdvertisement] and [Advertisement.AppendBinary], turns
//     bytes into an [Advertisement] and back;
//   - the [Machine] is the state machine of RFC 9568 §6.4 as a value: it reads
//     no clock and opens no socket. Its methods take events and their time, and
//     return the [Action]s that must follow;
//   - a [Router] runs one Machine over a [Conn], which many routers share, and
//     a [Handler], which owns the addresses.
//
// The Handler adds and removes the addresses; vip.Manager is one. Without a Handler
// and without addresses a Router elects a leader, see [Router.Entitled]. Package
// vrrptest tests routers without root and in virtual time.
package vrrp
