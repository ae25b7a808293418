// Package alarm tells people of what happens to a node: by a webhook or by e-mail.
//
// Three parts do it, and only the last of them reads a clock or opens a socket:
//
//   - judge (rules.go) says what an event means: something has begun, has ended, or has
//     just happened. The event is a line of the log, by its message.
//   - A [Book] (book.go) remembers for one receiver what lasts and what was told of it. It
//     returns the Alarms that are due: the first at once, nothing twice while it lasts,
//     what comes and goes all the time gathered and counted, and what lasts again after
//     Config.Repeat.
//   - A [Center] (center.go, receiver.go) has a Book and two goroutines for each receiver:
//     one reads the events of the Ring, the other delivers. A receiver that is slow or
//     gone delays no event, no reload and no other receiver: what waits for it stays in
//     its Book, and there gets no longer, only newer.
//
// The formats are functions from a [Notice] to bytes: json.go, slack.go, alertmanager.go
// and mail.go.
package alarm
