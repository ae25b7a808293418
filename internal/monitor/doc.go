// Package monitor listens to the virtual routers of a link, whoever made them, and says
// what is wrong between them. It needs no daemon and sends nothing.
//
// The [Watcher] is the core: it takes frames with their times and returns [Event]s. It
// reads no clock and does no I/O, so a file of yesterday and the wire of now give the same
// output. Of each virtual router, that is a link, an address family and a VRID, it knows
// the senders, which of them is Active, how regularly it advertises, and how the senders'
// parameters differ. What is wrong is said once, and again when it is over.
//
// [Run] ties the Watcher to a capture or a file on the one side, and to lines of text or
// of JSON on the other. Link layers, IP headers and file formats are gopacket's business,
// VRRP is package vrrp's.
package monitor
