// Package scenario is havip's reference scenario on a lab: two load balancers
// that share one address, three web servers behind them, and a client that
// notices every gap. The demo shows it to people; the end-to-end tests run it
// with Keepalived and nginx in any of the places. It needs Linux.
package scenario
