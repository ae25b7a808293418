// Package healthcheck probes targets, decides which are up and which are down, and reports
// each change.
//
// A [Checker] answers one question once: is this port open, does this page
// come back, does this program exit with 0. It is one method, so that a check
// of your own is a function of ten lines ([CheckerFunc]). The package brings
// checks of servers ([TCP], [HTTP], [GRPC], [DNS], [UDP], [SMTP], [TLS]), of
// the network ([ICMP], [Gateway], [Interface]) and of this machine ([Exec],
// [File], [Process]), as plain structs of which only the target is required.
// A target may be a name. It is resolved for each probe, and its addresses are tried until
// one accepts, as a client does ([ICMP] asks the first), so the check says nothing of the
// other addresses: [At] probes one of them. A target that expects a PROXY header needs
// [Proxied].
//
// A [Monitor] asks that question again and again and turns the answers into a
// [State]. It owns all that has to do with time: the interval and the timeout,
// how many equal answers in a row make a change ([Config] Rise and Fall), a
// faster pace while a change is under way, a slower one while down, jitter,
// and the least time that Down lasts. Probes never overlap and their times do
// not drift. A check that notices events by itself, such as the end of a
// process, is a [Watcher]: it is probed at once.
//
// Consumers subscribe to a Monitor. Each gets the present [Status], once there is a
// result, and then every change, in order, at its own speed: a slow consumer delays
// neither the probes nor the other consumers. So one check can move a virtual
// router, take a backend out of a pool ([Status.WhyDown]) and write a log line.
//
// A probe that could not even be made, because the program is missing or the
// process may not open the socket, says nothing about the target. Its error
// matches [ErrCannotRun], and Config.FailStatic decides what it counts as.
package healthcheck
