// Package filter carries out NoAccept of vip's Config, with nftables. It is a package of
// its own so that a program without NoAccept has no nftables in it. A program with
// NoAccept imports it for its effect:
//
//	import _ "github.com/havip/havip/vip/filter"
//
// Only a program that imports this package removes the filters that a killed process has
// left behind.
package filter
