// Package lb spreads connections, datagrams and HTTP requests over the backends
// that are alive.
//
// A [Pool] holds the backends of one service and what is known of their health. It
// hears from whoever probes them ([Pool.SetHealth]) and from the planes that use them
// ([Pick.Done]), and answers one question, [Pool.Pick]: which backend is next?
// Picking takes no lock and does not allocate. A pool believes its backends to be up
// until it is told otherwise. The status of a healthcheck.Monitor fits, see the
// example Healthcheck: what a monitor does not know yet takes no backend out.
//
// Each address of a name is a backend of its own, as long as [Pool.Run] finds it there.
// [Pool.Follow] tells of those that come and go, so that each has its own probe.
//
// The planes carry the traffic of a listener to a pool:
//
//   - [TCP] relays connections, terminates TLS or routes by server name, and
//     speaks the PROXY protocol on both sides;
//   - [UDP] relays datagrams in sessions;
//   - [HTTP] proxies requests, with TLS, HTTP/2 and the PROXY protocol: the short and safe
//     way;
//   - [Handler] is the part of it that a program can mount in an http.Server of its own,
//     beside other handlers and behind middlewares.
//
// The [Rules] of a Handler answer some requests, and change others; a [Route] has rules or a pool
// of its own for a host or a path. [HandlerConfig.ReadFiles] reads the files that rules name.
// An [AccessLog] writes a line for each request, connection or session.
//
// [Pool.Watch] tells of all that changes about a pool, for planes that are not in this
// package.
//
// Pools and planes start nothing by themselves. TCP, UDP and HTTP run inside Serve and end
// with its context. A Handler runs inside an http.Server: shut the server down first,
// and then the Handler, which knows the upgraded connections. [TrackConns] lets a Handler
// know the connections of clients, and [NewListener] keeps limits. A listener for an address
// that this host does not own yet, as on a VRRP Backup, comes from [Listen].
//
// Pools and planes are made from configurations. Validate returns all that is wrong
// with one, as FieldErrors; WithDefaults says what its zero fields stand for. Everything
// changes while it runs: Reconfigure replaces settings, [Pool.Update] backends and
// [Certificates.Reload] certificates. What did not change keeps its connections,
// health and counters.
package lb
