// Package filter is how vip's Config.NoAccept is done: with nftables, of which a
// program that does without NoAccept need not consist. A program with NoAccept imports
// the package for that:
//
//	import _ "github.com/havip/havip/vip/filter"
//
// What a killed process has left of its filters is removed only by a program that
// imports the package.
package filter
