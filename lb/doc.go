// Package lb spreads connections, datagrams and HTTP requests over backends
// that are alive.
//
// A [Pool] holds the backends of one service and what is known of their
// health. It is told by whoever probes them ([Pool.SetHealth]) and by the planes
// that use them (the outcome passed to [Pick.Done]), and it answers one
// question, [Pool.Pick]: which backend is next? Picking takes no lock and does
// not allocate.
//
// The planes carry the traffic of a listener to a pool:
//
//   - [TCP] relays connections, terminates TLS or routes by server name, and
//     speaks the PROXY protocol on both sides;
//   - [UDP] relays datagrams in sessions;
//   - [Handler] is an http.Handler that proxies requests.
//
// [Pool.Watch] tells of all that changes about a pool, for planes that are not in this
// package.
//
// Neither pools nor planes start anything by themselves: a plane runs inside its
// Serve method and ends with its context. A listener for an address that
// this host does not own yet, as on a VRRP Backup, comes from [Listen].
//
// Each has a configuration of its own, whose Validate tells all that is wrong with it
// and whose WithDefaults tells what it does where it says nothing. All of it changes
// while it runs: Reconfigure replaces settings, [Pool.Update] backends and
// [Certificates.Reload] certificates. What did not change keeps its connections,
// health and counters.
package lb
