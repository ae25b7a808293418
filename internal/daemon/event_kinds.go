package daemon

import (
	"log/slog"
	"strings"

	"github.com/havip/havip/internal/report"
)

// noEvent is the kind of lines that clients cause, which would push everything else out of
// the ring, and of those that only repeat what another line says.
const noEvent = ""

// eventKinds are the kinds of the daemon's lines by their message: all of those at Info
// and above that the daemon and its libraries log, as a test makes sure.
var eventKinds = map[string]string{
	// vrrp
	"begins":                   report.KindDaemon,
	"state":                    report.KindTransition,
	"waiting":                  report.KindFault,
	"fault":                    report.KindFault,
	"another router is Active": report.KindOther,
	"hands over: keeps the addresses until a successor is heard": report.KindAddresses,
	"addresses acquired": report.KindAddresses,
	"the addresses outlive a process that is not run by longer than they should": report.KindAddresses,
	"addresses released":                              report.KindAddresses,
	"addresses":                                       report.KindAddresses, // could not be acquired or released
	"another interval":                                report.KindDiscard,
	"other virtual addresses":                         report.KindDiscard,
	"another form of checksum":                        report.KindDiscard,
	"the sender's clock is off":                       report.KindDiscard,
	"discarded":                                       report.KindDiscard,
	"advertisement not sent":                          report.KindFault,
	"receiving advertisements":                        report.KindFault,
	"watching the interface":                          report.KindFault,
	"owners of virtual addresses may not be heard":    report.KindOther,
	"another process may run the same virtual router": report.KindFault,
	"split: another router is Active as well":         report.KindSplit,
	"split: over":                                     report.KindSplit,
	"the other Active router does not hear this one":  report.KindSplit,
	"the addresses of a router here are advertised with another VRID: one of the two is wrong": report.KindDiscard,
	"a peer advertises with another VRID: one of the two may be wrong":                         report.KindDiscard,

	// vip
	"addresses lost":                                                                                report.KindAddresses,
	"addresses are not as they should be":                                                           report.KindAddresses,
	"addresses are as they should be again":                                                         report.KindAddresses,
	"removed addresses that are not held":                                                           report.KindAddresses,
	"addresses are another program's now: they stay when they are released":                         report.KindAddresses,
	"addresses had gone, putting them back":                                                         report.KindAddresses,
	"the filter for what is sent to the addresses had gone, putting it back":                        report.KindAddresses,
	"another host claims an address that is held here":                                              report.KindConflict,
	"told the link who has the address now":                                                         report.KindConflict,
	"what is configured no more may be left":                                                        report.KindAddresses,
	"what is not configured any more was not removed":                                               report.KindAddresses,
	"an address cannot be noted down: should this process be killed its successor will not know it": report.KindAddresses,
	"a setting of an interface was not put back":                                                    report.KindOther,
	"watching addresses failed":                                                                     report.KindOther,
	"listening for other hosts failed":                                                              report.KindOther,

	// vip/failover, vip/guard
	"addresses may be left behind":                   report.KindAddresses,
	"router does not run":                            report.KindFault,
	"the guard did not take the will":                report.KindDaemon,
	"the guard has no farewell to send":              report.KindDaemon,
	"the guard died, starting another":               report.KindDaemon,
	"no guard: addresses would outlive this process": report.KindDaemon,

	// healthcheck
	"check is up":      report.KindCheck,
	"check is down":    report.KindCheck,
	"check is unknown": report.KindCheck,
	"check is left with its interval, it hears of no events": report.KindCheck,

	// lb
	"event loop sends without io_uring from now on":                   report.KindDaemon,
	"access logs opened anew":                                         report.KindDaemon,
	"access logs are not all opened anew":                             report.KindDaemon,
	"access log loses lines":                                          report.KindDaemon,
	"access log cannot be opened: its lines are lost until it can be": report.KindDaemon,
	"access log is opened at last":                                    report.KindDaemon,
	"access log has its lines written again":                          report.KindDaemon,
	"backend is up":                                                   report.KindBackend,
	"backend is down":                                                 report.KindBackend,
	"backend ejected":                                                 report.KindBackend,
	"backend readmitted":                                              report.KindBackend,
	"backend drain":                                                   report.KindBackend,
	"backend not resolved":                                            report.KindBackend,
	"backend is resolved again":                                       report.KindBackend,
	"backend resolved":                                                report.KindBackend,
	"health of an unknown backend":                                    report.KindBackend,
	"pool has no working backends":                                    report.KindPool,
	"pool has working backends again":                                 report.KindPool,
	"pool has its quorum again":                                       report.KindPool,
	"pool is below its quorum":                                        report.KindPool,
	"too few backends are up: all are used, whatever their health":    report.KindPool,
	"enough backends are up: the health of each counts again":         report.KindPool,
	"accept paused":                                                   report.KindService,
	"backend not reached":                                             noEvent,
	"backend failed":                                                  noEvent,
	"connection":                                                      noEvent,
	"connection waits":                                                noEvent,
	"connection refused":                                              noEvent,
	"connection not served":                                           noEvent,
	"request not served":                                              noEvent,
	"bodies of requests are not buffered: let havip write to the folder, choose another one, or turn buffering off": report.KindService,
	"body of a request is not buffered to its end: make room in the folder, or choose another one":                  noEvent,
	"body of a request is not buffered to its end: allow bodies more bytes in files together":                       noEvent,
	"response timed out":               noEvent,
	"response broken off":              noEvent,
	"datagram not sent":                noEvent,
	"session not connected":            noEvent,
	"panic while a request was served": report.KindOther,

	// internal/daemon: what people do
	// of which who asked for it tells, too
	"maintenance begins: every router stays out of the election":                                          noEvent,
	"maintenance of a service begins: all requests get 503":                                               noEvent,
	"maintenance of a service ends: requests go to backends again":                                        noEvent,
	"maintenance ends: routers take part again":                                                           noEvent,
	"maintenance goes on: no router takes part, until it is ended by a command":                           report.KindControl,
	"the note of a maintenance cannot be read: it is taken for one":                                       report.KindControl,
	"whether there is a maintenance cannot be found out: none is assumed":                                 report.KindControl,
	"an old note of a maintenance is in the folder: the next start begins it, unless the file is removed": report.KindControl,
	"the note of the maintenance cannot be removed":                                                       report.KindControl,
	"the maintenance cannot be noted down: a restart ends it":                                             report.KindControl,

	// internal/alarm
	"an alarm is not delivered yet": report.KindAlarm,
	"an alarm is given up":          report.KindAlarm,
	"alarms are delivered again":    report.KindAlarm,

	"the reload changes":                            report.KindReload,
	"the reload changes more than this":             report.KindReload,
	"the reload takes back what a command has said": report.KindReload,

	// internal/daemon
	"certificate ends soon":                   report.KindCertificate,
	"certificate has ended":                   report.KindCertificate,
	"certificate is good again":               report.KindCertificate,
	"certificate has no OCSP response":        report.KindCertificate,
	"certificate has its OCSP response again": report.KindCertificate,
	"reloading":           report.KindReload,
	"reloaded":            report.KindReload,
	"reload":              report.KindReload,
	"no reload: stopping": report.KindReload,
	"log format: changes with the next start":            report.KindReload,
	"router starts anew, and hands over if it is active": report.KindReload,
	"router changes in place":                            report.KindReload,
	"too slow: a change of state is not told":            report.KindOther,
	"too slow: the end is not told":                      report.KindOther,
	"notify program failed":                              report.KindOther,
	"notify program cannot be run":                       report.KindOther,
	"program of a check cannot be run":                   report.KindCheck,
	"the FIFO cannot be opened yet":                      report.KindOther,
	"not written to the FIFO yet":                        report.KindOther,
	"not written to the FIFO":                            report.KindOther,
	"service does not run":                               report.KindService,
	"serving":                                            report.KindService,
	"pool not emptied":                                   report.KindPool,
	"no start delay: the host was not booted just now":   report.KindDaemon,
	"the authorities of a check cannot be read again":    report.KindCertificate,
	"backend not checked":                                report.KindBackend,
	"a part of the daemon has ended":                     report.KindDaemon,
	"not everything runs":                                report.KindDaemon,
	"running":                                            report.KindDaemon,
	"stopping":                                           report.KindDaemon,
	"stopped":                                            report.KindDaemon,

	// internal/admin
	"steered":                                 report.KindControl,
	"not steered":                             report.KindControl,
	"admin: logged in":                        report.KindControl,
	"admin: logged out":                       report.KindControl,
	"admin: a wrong token":                    noEvent,
	"admin: refused":                          noEvent,
	"admin: listening":                        report.KindDaemon,
	"admin: cannot listen":                    report.KindDaemon,
	"admin: the group cannot open the socket": report.KindDaemon,
	"admin: certificate read again":           report.KindCertificate,
	"admin: certificate not read again: the one of before goes on": report.KindCertificate,
	"admin: a request panicked":                                    report.KindOther,
}

// eventBeginnings are the kinds of lines whose messages go on with what differs.
var eventBeginnings = []struct{ beginning, kind string }{
	{"another interval than before: ", report.KindReload},
	{"other addresses than before: ", report.KindReload},
	{"quite other addresses than before: ", report.KindReload},
	{"another password than before: ", report.KindReload},
	{"peers instead of multicast, or the reverse: ", report.KindReload},
}

// kindOf is the kind of the event that a line is; noEvent: none. A warning or an error
// that nobody knows is an event all the same.
func kindOf(message string, level slog.Level) string {
	if kind, ok := eventKinds[message]; ok {
		return kind
	}
	for _, b := range eventBeginnings {
		if strings.HasPrefix(message, b.beginning) {
			return b.kind
		}
	}
	if level >= slog.LevelWarn {
		return report.KindOther
	}
	return noEvent
}
